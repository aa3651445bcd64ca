"""The exporter of stock: exact counts, what waits in the broker, and one exporter at a time."""

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY, generate_latest

from engram import metrics
from engram_curator import stock as exporter_module
from engram_curator.stock import Exporter, exporting
from tests.support.servers import private_nats
from tests.support.store import Store, embedding_lanes, open_store
from tests.support.wait import eventually

SPACE = "hashing:ngram-1@256"


@pytest.fixture
async def store(database_url, superuser_url, nats_url):
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


def value(name: str, **labels: str) -> float | None:
    """Return what a scrape of this process would show."""
    return REGISTRY.get_sample_value(f"engram_{name}", labels)


async def counted(exporter: Exporter) -> None:
    """Look once, and wait until the slow tier has counted what is there now."""
    exporter._count_at = 0.0
    assert await exporter.round()
    if exporter._counting is not None:
        await exporter._counting


async def by_sql(store: Store) -> dict[str, int]:
    """Count the one space by plain SQL of another shape."""
    row = await store.sql.fetchrow(
        "SELECT count(*) FILTER (WHERE v.version = m.version) AS current, "
        "count(*) FILTER (WHERE v.version IS DISTINCT FROM m.version AND f.dead) AS dead, "
        "count(*) FILTER (WHERE v.memory_id IS NULL) AS missing, "
        "count(*) FILTER (WHERE v.version <> m.version) AS stale, count(*) AS active "
        "FROM engram.memory m LEFT JOIN engram_vec.space_1 v ON v.memory_id = m.id "
        "LEFT JOIN engram.embedding_failure f ON f.memory_id = m.id WHERE m.state = 'active'"
    )
    return dict(row)


async def test_every_memory_is_counted_once_and_what_differs_is_told(store):
    async with embedding_lanes(store.service):
        ids = [(await store.post(f"memory {number}"))["id"] for number in range(6)]
        await eventually(lambda: store.sql.fetchval("SELECT count(*) = 6 FROM engram_vec.space_1"))
    await store.post("not embedded")
    await store.sql.execute("DELETE FROM engram_vec.space_1 WHERE memory_id = $1", ids[0])
    await store.sql.execute("UPDATE engram.memory SET version = 2 WHERE id = $1", ids[1])
    await store.sql.execute("UPDATE engram.memory SET state = 'archived' WHERE id = $1", ids[2])
    await store.sql.execute(
        "INSERT INTO engram.embedding_failure (workspace, memory_id, space, version, attempts, "
        "class, error, next_attempt, dead) VALUES ($1, $2, 1, 1, 8, 'rejected', '', now(), true)",
        *(store.workspace, ids[0]),
    )
    async with exporting(store.service) as exporter:
        await counted(exporter)
        sql = await by_sql(store)
        assert sql == {"current": 3, "dead": 1, "missing": 2, "stale": 1, "active": 6}
        shown = {s: value("space_memories", space=SPACE, state=s) for s in ("current", "dead")}
        assert shown == {"current": 3, "dead": 1}
        assert value("space_memories", space=SPACE, state="pending") == 2
        assert value("memories", state="active") == sql["active"]
        assert value("memories", state="archived") == 1
        for kind, number in (("missing", 2), ("stale", 1), ("orphan", 1)):
            assert value("space_differences", space=SPACE, kind=kind) == number
        assert value("dead_letters_waiting", kind="embedding", **{"class": "rejected"}) == 1
        assert value("dead_letters_waiting", kind="embedding", **{"class": "auth"}) == 0


async def test_memories_of_workspaces_outside_a_space_are_not_pending_in_it(store):
    await store.post("ours")
    other, _ = await store.other_workspace()
    await store.sql.execute("UPDATE engram.space SET workspaces = ARRAY[$1::uuid]", other)
    async with exporting(store.service) as exporter:
        await counted(exporter)
        assert value("space_memories", space=SPACE, state="pending") == 0
        assert value("memories", state="active") == 1


async def test_what_waits_in_a_lane_is_shown_with_its_age_until_it_is_done(store):
    async with exporting(store.service) as exporter:
        await store.post("first")
        await eventually(lambda: store.sql.fetchval("SELECT count(*) = 0 FROM engram.outbox"))

        async def aged() -> bool:
            await exporter.round()
            return value("lane_oldest_seconds", lane="live", space=SPACE) > 0.05

        await eventually(aged)
        assert value("lane_pending_messages", lane="live", space=SPACE) == 1
        assert value("lane_oldest_seconds", lane="ingest", space="") == 0
        assert value("stream_messages", stream="ENGRAM_MEMORY") == 1
        assert value("stream_limit_bytes", stream="ENGRAM_MEMORY") == 4 * 1024**3
        async with embedding_lanes(store.service):
            await eventually(
                lambda: store.sql.fetchval("SELECT count(*) > 0 FROM engram_vec.space_1")
            )

            async def none_left() -> bool:
                await exporter.round()
                assert value("lane_ack_pending_messages", lane="live", space=SPACE) == 0
                return value("lane_oldest_seconds", lane="live", space=SPACE) == 0

            await eventually(none_left)


async def test_outbox_bulk_sizes_and_sweeps_are_shown(store):
    await store.sql.execute(
        "INSERT INTO engram.bulk_batch (space, workspace, ids, rung_at) "
        "VALUES (1, $1, ARRAY[$1, $1]::uuid[], now() - interval '1 minute')",
        store.workspace,
    )
    await store.sql.execute(
        "INSERT INTO engram.sweep (name, every, next_due, last_finished, last_error) VALUES "
        "('late', '1 hour', now() - interval '10 minutes', now() - interval '2 hours', 'KeyError')"
    )
    async with exporting(store.service) as exporter:
        await exporter.round()
        assert value("bulk_waiting_memories", space=SPACE) == 2
        assert 60 <= value("bulk_oldest_seconds", space=SPACE) < 90
        assert value("outbox_lines") == 0
        assert value("table_bytes", table="memory") > 0
        assert value("index_bytes", table=SPACE) > 0
        assert value("database_bytes") > 1_000_000
        assert 600 <= value("sweep_overdue_seconds", sweep="late") < 700
        assert value("sweep_failed", sweep="late") == 1
        assert value("sweep_last_success_timestamp_seconds", sweep="late") is None
        await exporter.round()
        assert value("sweep_failed", sweep="stock") == 0
        assert value("sweep_overdue_seconds", sweep="stock") == 0


async def test_the_migration_under_way_is_shown_by_its_target_only(store):
    async with exporting(store.service) as exporter:
        await exporter.round()
        assert value("migration_phase", target="b", phase="backfill") is None
        await store.sql.execute(
            "INSERT INTO engram.migration (id, source_space, phase, plan, target_key, progress, "
            "verdict) VALUES (gen_random_uuid(), 1, 'backfill', '{}', 'b', "
            """'{"rows": 10, "missing": 4}', '{"mismatches": 2, "overlap": 0.875}')"""
        )
        await exporter.round()
        assert value("migration_phase", target="b", phase="backfill") == 1
        assert value("migration_phase", target="b", phase="released") == 0
        assert value("migration_items", target="b", state="done") == 6
        assert value("migration_mismatches", target="b") == 2
        assert value("migration_overlap_ratio", target="b") == 0.875


async def test_one_exporter_at_a_time_and_the_next_begins_when_it_ends(store):
    async with exporting(store.service) as second:
        async with exporting(store.service) as first:
            assert await first.round()
            metrics.show_stock(shown=False)
            assert not await second.round()
            assert b"engram_outbox_lines" not in generate_latest()
            assert await first.round()
            assert b"engram_outbox_lines" in generate_latest()
        assert b"engram_outbox_lines" not in generate_latest()
        assert await second.round()


async def test_who_dies_loses_the_lease_when_it_ends(store, monkeypatch):
    monkeypatch.setattr(exporter_module, "_LEASE", timedelta(seconds=0.2))
    async with exporting(store.service) as dead, exporting(store.service) as heir:
        assert await dead.round()
        assert not await heir.round()
        assert await eventually(heir.round)
        assert not await dead.round()


async def test_without_nats_the_figures_of_postgres_stay(database_url):
    async with private_nats() as server, open_store(database_url, server.nats_url) as store:
        async with exporting(store.service) as exporter:
            assert await exporter.round()
            assert value("stream_bytes", stream="ENGRAM_MEMORY") is not None
            await server.stop()
            assert await exporter.round()
            assert value("stream_bytes", stream="ENGRAM_MEMORY") is None
            assert value("outbox_lines") is not None
            await server.start()
            await eventually(lambda: store.service.broker.is_connected)
        row = await store.sql.fetchrow("SELECT * FROM engram.sweep WHERE name = 'stock'")
        assert row["last_error"] == "nats_unavailable"
