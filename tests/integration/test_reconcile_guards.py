"""What reconcile leaves alone: work that waits, what was given up, and what changed meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engram.storage import reconciling
from engram_curator.reconcile import reconcile
from tests.support.store import Store, open_store
from tests.support.vectors import due, fail, forget, found, having_vectors, old
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, "hashing@8", superuser_url=superuser_url
    ) as opened:
        yield opened


WAITING: dict[str, Any] = {}
DEAD: dict[str, Any] = {"dead": True}
DISCARDED: dict[str, Any] = {"dead": True, "discarded_at": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize("fields", [WAITING, DEAD, DISCARDED], ids=["waiting", "dead", "discarded"])
async def test_a_failure_of_this_version_speaks_for_its_memory(
    store: Store, fields: dict[str, Any]
) -> None:
    [memory] = await old(store, "x")
    await forget(store, [memory])
    await fail(store, memory, **fields)
    before = await store.sql.fetch("SELECT * FROM engram.embedding_failure")
    await reconcile(store.service)
    assert await store.sql.fetch("SELECT * FROM engram.embedding_failure") == before
    assert found() == {}


async def test_a_dead_letter_of_an_older_text_does_not(store: Store) -> None:
    [memory] = await old(store, "x")
    await fail(store, memory, version=1, dead=True)
    await store.sql.execute("UPDATE engram.memory SET version = 2")
    await reconcile(store.service)
    assert await due(store) == {memory: "stale"}


async def test_a_dead_letter_written_meanwhile_is_not_revived(store: Store) -> None:
    """Between the snapshot and the repair the embedder gave up."""
    [memory] = await old(store, "x")
    await forget(store, [memory])
    await fail(store, memory, dead=True)
    difference = reconciling.Difference(store.workspace, memory, 1, None, "missing", 0.0)
    async with store.service.pool.acquire() as connection, connection.transaction():
        assert await reconciling.make_due(connection, 1, [difference]) == 0
    assert await store.sql.fetchval("SELECT dead FROM engram.embedding_failure") is True


async def test_what_is_young_or_may_wait_in_the_bulk_queue_is_on_its_way(store: Store) -> None:
    young, before, after = await old(store, "young", "before", "after")
    other_workspace, _ = await store.other_workspace()
    await forget(store, [young, before, after])
    for memory, ago in ((young, 10), (before, 4000), (after, 3500)):
        await store.sql.execute(
            "UPDATE engram.memory SET versioned_at = now() - $2::interval WHERE id = $1",
            *(memory, timedelta(seconds=ago)),
        )
    mine, theirs = store.workspace, other_workspace
    for space, workspace, ago in (
        (1, mine, 3600),
        (1, mine, 60),
        (1, theirs, 9000),
        (2, mine, 9000),
    ):
        await store.sql.execute(
            "INSERT INTO engram.bulk_batch (space, workspace, ids, rung_at) "
            "VALUES ($1, $2, '{}', now() - $3::interval)",
            *(space, workspace, timedelta(seconds=ago)),
        )
    await reconcile(store.service)
    assert await due(store) == {before: "missing"}
    await store.sql.execute("DELETE FROM engram.bulk_batch")
    await reconcile(store.service)
    assert await due(store) == {before: "missing", after: "missing"}


async def test_an_orphan_that_is_restored_meanwhile_keeps_its_vector(store: Store) -> None:
    """The delete waits for the restore that has the memory's lock, and looks again."""
    [memory] = await old(store, "x")
    difference = reconciling.Difference(store.workspace, memory, None, 1, "orphan", 0.0)
    await store.sql.execute("UPDATE engram.memory SET state = 'archived'")

    async def drop() -> int:
        async with store.service.pool.acquire() as connection, connection.transaction():
            return await reconciling.drop_vectors(connection, 1, 8, [difference])

    async with store.service.pool.acquire() as restoring, restoring.transaction():
        await restoring.execute("UPDATE engram.memory SET state = 'active'")
        dropping = asyncio.create_task(drop())
        await eventually(lambda: _somebody_waits(store))
    assert await dropping == 0
    assert await having_vectors(store) == {memory}


async def _somebody_waits(store: Store) -> bool:
    waiting = await store.sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return bool(waiting)


async def test_a_vector_written_meanwhile_is_neither_deleted_nor_embedded_again(
    store: Store,
) -> None:
    [memory] = await old(store, "x")
    key = (store.workspace, memory, 1)
    async with store.service.pool.acquire() as connection, connection.transaction():
        stale = reconciling.Difference(*key, 1, "norm", 0.0)
        assert await reconciling.drop_vectors(connection, 1, 8, [stale]) == 0
        assert await reconciling.make_due(connection, 1, [stale]) == 0
    assert await due(store) == {}
