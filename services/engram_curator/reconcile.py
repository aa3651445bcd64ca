"""The reconcile sweep: live memories that nothing is about to embed become due."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from engram import metrics
from engram.serving.process import Service
from engram.storage import vectors
from engram.storage.vectors import Failure, Text

log = structlog.get_logger(__name__)

_PAGE = 1_000
# Younger ones are on their way through the event stream.
_GRACE = timedelta(seconds=30)


async def reconcile(service: Service) -> None:
    """Look through every active space."""
    for space in service.spaces.active:
        found = await _space(service, space)
        label = service.spaces.key(space)
        metrics.RECONCILED.labels(label).set(found)
        if found:
            log.warning("vectors were missing", space=label, memories=found)


async def _space(service: Service, space: int) -> int:
    """Make what is missing in one space due at once; return how many there were."""
    found, after = 0, (UUID(int=0), UUID(int=0))
    while True:
        async with service.pool.acquire() as connection, connection.transaction():
            page = await vectors.missing(connection, space, after, _PAGE, _GRACE)
            if page:
                await vectors.record_failures(connection, [_due(*row) for row in page], space)
        found += len(page)
        if len(page) < _PAGE:
            return found
        after = page[-1][0], page[-1][1]


def _due(workspace: UUID, memory_id: UUID, version: int) -> Failure:
    # No attempt was made: the row only makes the embedder look, by the path of every retry.
    text = Text(workspace, memory_id, version, "", 0)
    return Failure(text, 0, "missing", "Found by reconcile.", datetime.now(UTC), dead=False)
