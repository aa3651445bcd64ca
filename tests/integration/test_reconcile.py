"""Reconcile: whatever differs between vectors and live memories is found, told and repaired."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
import structlog
from prometheus_client import REGISTRY

from engram.domain.spaces import parse_embedding
from engram.storage import reconciling
from engram.storage.queries import over_vectors
from engram.storage.spaces import create_space
from engram_curator.reconcile import Looked, reconcile
from tests.support.store import Store, embedding_lanes, open_store
from tests.support.vectors import SPACE, due, forget, found, having_vectors, old, put, spoil
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, "hashing@8", superuser_url=superuser_url
    ) as opened:
        yield opened


async def test_a_store_that_agrees_is_left_alone(store: Store) -> None:
    await old(store, "a", "b")
    await reconcile(store.service)
    assert found() == {}
    assert await due(store) == {}
    assert len(await having_vectors(store)) == 2


async def test_missing_and_stale_become_due_and_their_age_is_told(store: Store) -> None:
    good, missing, stale = await old(store, "good", "missing", "stale")
    await forget(store, [missing])
    await store.sql.execute("UPDATE engram.memory SET version = 2 WHERE id = $1", stale)
    await reconcile(store.service)
    assert await due(store) == {missing: "missing", stale: "stale"}
    assert found() == {"missing": 1, "stale": 1}
    age = REGISTRY.get_sample_value("engram_missing_oldest_seconds", {"space": SPACE})
    assert age is not None
    assert 3600 <= age < 3700
    # A stale vector is never shown, and the new one takes its place: no reason to delete it.
    assert await having_vectors(store) == {good, stale}
    await reconcile(store.service)
    assert found() == {}
    assert REGISTRY.get_sample_value("engram_missing_oldest_seconds", {"space": SPACE}) == 0


async def test_vectors_of_no_live_memory_are_deleted(store: Store) -> None:
    live, archived, nobody = *await old(store, "live", "archived"), uuid4()
    await put(store, nobody)
    await store.sql.execute("UPDATE engram.memory SET state = 'archived' WHERE id = $1", archived)
    await reconcile(store.service)
    assert found() == {"orphan": 2}
    assert await having_vectors(store) == {live}
    assert await due(store) == {}


async def test_a_vector_ahead_of_its_memory_goes_before_the_memory_is_due(store: Store) -> None:
    [memory] = await old(store, "restored from an older backup")
    await store.sql.execute("UPDATE engram_vec.space_1 SET version = 7")
    await reconcile(store.service)
    assert await having_vectors(store) == set()
    assert await due(store) == {memory: "stale"}


@pytest.mark.parametrize(
    "halves", [b"\0\0" * 8, b"\x00\x7e" * 8, b"\x00\x7c" + b"\0\0" * 7], ids=["0", "NaN", "inf"]
)
async def test_a_vector_without_a_length_is_deleted_and_its_memory_due(
    store: Store, halves: bytes
) -> None:
    good, bad = await old(store, "good", "bad")
    await spoil(store, bad, halves)
    await reconcile(store.service)
    assert found() == {"norm": 1}
    assert await having_vectors(store) == {good}
    assert await due(store) == {bad: "norm"}


async def test_a_vector_of_another_length_is_deleted_where_the_column_takes_any(
    store: Store,
) -> None:
    good, bad = await old(store, "good", "bad")
    await store.sql.execute("ALTER TABLE engram_vec.space_1 ALTER COLUMN embedding TYPE halfvec")
    await store.sql.execute(
        "UPDATE engram_vec.space_1 SET embedding = '[1,2]' WHERE memory_id = $1", bad
    )
    await reconcile(store.service)
    assert found() == {"dimension": 1}
    assert await having_vectors(store) == {good}
    assert await due(store) == {bad: "dimension"}


async def test_a_column_of_another_length_is_said_aloud_and_nothing_is_deleted(
    store: Store,
) -> None:
    ids = await old(store, "a", "b")
    await store.sql.execute(
        "ALTER TABLE engram_vec.space_1 ALTER COLUMN embedding TYPE halfvec(4) "
        "USING subvector(embedding::vector, 1, 4)::halfvec(4)"
    )
    with structlog.testing.capture_logs() as logs:
        await reconcile(store.service)
    line = next(one for one in logs if one["log_level"] == "error")
    assert (line["column_dimensions"], line["space_dimensions"]) == (4, 8)
    assert found() == {"dimension": 2}
    assert await having_vectors(store) == set(ids)


async def test_more_than_a_page_is_repaired_and_the_snapshot_does_not_last(store: Store) -> None:
    await store.sql.execute(
        "INSERT INTO engram.memory (workspace, id, namespace, version, state, content, "
        "content_sha256, metadata, categories, importance, pinned, source, created_at, updated_at, "
        "versioned_at, versioned_by, reinforced_at) SELECT $1, uuidv7(), 'global', 1, 'active', "
        "'x', '', '{}', '{}', .5, false, 'native', now(), now(), now() - interval '1 hour', 'x', "
        "now() FROM generate_series(1, 2500)",
        store.workspace,
    )
    async with store.service.pool.acquire() as connection:
        process = await connection.fetchval("SELECT pg_backend_pid()")
        async with reconciling.differing(connection, 1, 8, 0) as pages:
            horizon = await store.sql.fetchval(
                "SELECT backend_xmin FROM pg_stat_activity WHERE pid = $1", process
            )
            sizes = [len(page) async for page in pages]
    assert horizon is None
    assert sizes == [1000, 1000, 500]
    await reconcile(store.service)
    assert len(await due(store)) == 2500
    assert found() == {"missing": 2500}


async def test_the_whole_comparison_is_one_join_that_reads_each_table_once(store: Store) -> None:
    sql = over_vectors("reconcile", "differ", 1)
    query = "EXPLAIN " + sql[sql.index("SELECT") :]
    async with store.service.pool.acquire() as connection:
        rows = await connection.fetch(query, 1, 8, 0, reconciling.GRACE, None, False)
    plan = "\n".join(row[0] for row in rows)
    assert "Full Join" in plan
    assert plan.count(" on memory") == plan.count(" on space_1") == 1, plan


async def test_vectors_are_looked_at_once_and_memories_every_time(store: Store) -> None:
    first, second = await old(store, "first", "second")
    looked = Looked()
    for _ in range(3):
        await reconcile(store.service, looked)
    await spoil(store, first, b"\0\0" * 8)
    await forget(store, [second])
    await reconcile(store.service, looked)
    assert found() == {"missing": 1}
    # Another process, or this one a day later, looks at all of them.
    await reconcile(store.service, Looked())
    assert found() == {"norm": 1}


async def test_a_new_vector_is_looked_at_however_late_it_was_committed(store: Store) -> None:
    await old(store, "first")
    looked = Looked()
    await reconcile(store.service, looked)
    late, later = await old(store, "late", "later")
    await reconcile(store.service, looked)
    # "late" took its seq before that pass, and becomes visible after it.
    await spoil(store, late, b"\0\0" * 8)
    await reconcile(store.service, looked)
    assert found() == {"norm": 1}
    assert later in await having_vectors(store)


async def test_one_spaces_trouble_does_not_keep_the_other_waiting(
    store: Store, database_url: str
) -> None:
    login = await asyncpg.connect(database_url)
    await create_space(login, parse_embedding("hashing@16"), deterministic=True)
    await login.close()
    await store.service.spaces.refresh()
    [memory] = await old(store, "x")
    await store.sql.execute("ALTER TABLE engram_vec.space_1 RENAME TO elsewhere")
    with pytest.raises(asyncpg.UndefinedTableError):
        await reconcile(store.service)
    rows = await store.sql.fetch("SELECT memory_id, space FROM engram.embedding_failure")
    assert [tuple(row) for row in rows] == [(memory, 2)]
    assert found("hashing:ngram-1@16") == {"missing": 1}


async def test_what_was_repaired_gets_its_vector_by_the_normal_path(store: Store) -> None:
    missing, stale, bad = await old(store, "missing", "stale", "bad")
    await put(store, uuid4())
    await forget(store, [missing])
    await store.sql.execute("UPDATE engram.memory SET version = 2 WHERE id = $1", stale)
    await spoil(store, bad, b"\0\0" * 8)
    before = _repairs()
    await reconcile(store.service)
    after = _repairs()
    assert (after["deleted"] - before["deleted"], after["due"] - before["due"]) == (2, 3)
    async with embedding_lanes(store.service):

        async def current() -> bool:
            rows = await store.sql.fetch(
                "SELECT v.memory_id FROM engram_vec.space_1 v JOIN engram.memory m "
                "ON m.id = v.memory_id AND m.version = v.version WHERE l2_norm(embedding) > 0.9"
            )
            return {row["memory_id"] for row in rows} == {missing, stale, bad}

        await eventually(current)
    await reconcile(store.service)
    assert found() == {}
    assert await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure") == 0


def _repairs() -> dict[str, float]:
    return {
        kind: REGISTRY.get_sample_value(
            "engram_reconcile_repairs_total", {"space": SPACE, "repair": kind}
        )
        or 0.0
        for kind in ("deleted", "due")
    }
