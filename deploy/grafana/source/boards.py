"""Every dashboard, in the order of its file."""

from deploy.grafana.source import curator, migration, overview, pipeline, provider, storage

BOARDS = (
    overview.BOARD,
    pipeline.BOARD,
    provider.BOARD,
    curator.BOARD,
    migration.BOARD,
    storage.BOARD,
)
