"""What searches find is counted in memory and written in ordered batches that wait for nobody."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from engram.storage.accessing import Access, count_accesses
from engram.storage.connection import Pool, open_pool
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from engram_ingest import accesses as counting
from engram_ingest.accesses import Accesses
from tests.support.cluster import cluster
from tests.support.fading import aged
from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True, access_flush_s=0.05
    ) as opened:
        yield opened


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await open_pool(database_url, "engram_api", size=4, name="test") as opened:
        yield opened


async def counted(store: Store, memory: UUID) -> int:
    sql = "SELECT access_count FROM engram.memory WHERE id = $1"
    return int(await store.sql.fetchval(sql, memory))


async def found(store: Store, content: str) -> UUID:
    answer = await store.client.post("/v1/memories?wait=embedded", json={"content": content})
    return UUID(answer.json()["id"])


async def test_what_a_search_finds_is_counted_and_reinforced_and_nothing_else_changes(
    store: Store,
) -> None:
    tea = await found(store, "likes green tea")
    other = await found(store, "runs on Sundays")
    await store.sql.execute("UPDATE engram.memory SET reinforced_at = now() - interval '9 days'")
    before = await store.sql.fetchrow("SELECT * FROM engram.memory WHERE id = $1", tea)
    lines = await store.sql.fetchval("SELECT last_value FROM engram.outbox_id_seq")
    for _ in range(3):
        await store.client.post("/v1/memories/search", json={"query": "green tea", "limit": 1})

    async def written() -> bool:
        return await counted(store, tea) == 3

    await eventually(written)
    after = await store.sql.fetchrow("SELECT * FROM engram.memory WHERE id = $1", tea)
    changed = {name for name in dict(before) if before[name] != after[name]}
    assert changed == {"access_count", "last_accessed_at", "reinforced_at"}
    assert after["last_accessed_at"] == after["reinforced_at"] > before["reinforced_at"]
    assert await counted(store, other) == 0
    assert await store.sql.fetchval("SELECT last_value FROM engram.outbox_id_seq") == lines


async def test_a_context_counts_what_is_in_the_block(store: Store) -> None:
    made = [await found(store, f"likes green tea number {n}") for n in range(4)]
    answer = await store.client.post(
        "/v1/memories/context", json={"query": "green tea", "max_tokens": 20}
    )
    shown = {UUID(id_) for id_ in answer.json()["memories"]}
    assert 0 < len(shown) < 4

    async def written() -> bool:
        return {memory for memory in made if await counted(store, memory)} == shown

    await eventually(written)


async def test_draining_writes_what_waits(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    sql = await asyncpg.connect(superuser_url)
    async with open_store(database_url, nats_url, embedder=True, access_flush_s=60) as store:
        tea = await found(store, "likes green tea")
        await store.client.post("/v1/memories/search", json={"query": "tea"})
        count = "SELECT access_count FROM engram.memory WHERE id = $1"
        assert await sql.fetchval(count, tea) == 0
    assert await sql.fetchval(count, tea) == 1
    await sql.close()


async def test_batches_are_one_statement_each_in_ascending_id(
    store: Store, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await aged(store, 30, 1)
    other, _ = await store.other_workspace()
    ids_of_other = await aged(store, 5, 1, workspace=other)
    batches: list[list[Access]] = []

    async def seen(pool, batch):
        batches.append(list(batch))
        return await count_accesses(pool, batch)

    monkeypatch.setattr(counting, "count_accesses", seen)
    monkeypatch.setattr(counting, "BATCH", 10)
    accesses = Accesses(pool)
    accesses.note(store.workspace, reversed(ids))
    accesses.note(other, ids_of_other)
    accesses.note(store.workspace, ids[:3])
    await accesses.flush()
    keys = [access.id for batch in batches for access in batch]
    assert keys == sorted([*ids, *ids_of_other])
    assert [len(batch) for batch in batches] == [10, 10, 10, 5]
    assert [await counted(store, memory) for memory in ids[:4]] == [2, 2, 2, 1]
    await accesses.flush()
    assert len(batches) == 4


async def test_a_row_that_is_held_is_passed_over_and_counted_later(
    store: Store, pool: Pool
) -> None:
    held, free = await aged(store, 2, 1)
    accesses = Accesses(pool)
    async with store.service.pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT 1 FROM engram.memory WHERE id = $1 FOR UPDATE", held)
        accesses.note(store.workspace, [held, free])
        async with asyncio.timeout(5):
            await accesses.flush()
        assert await counted(store, free) == 1
        accesses.note(store.workspace, [held])
    await accesses.flush()
    assert await counted(store, held) == 2
    assert await counted(store, free) == 1


async def test_what_is_not_active_any_more_is_forgotten(store: Store, pool: Pool) -> None:
    archived = await aged(store, 1, 1, state="archived")
    before = await store.sql.fetchval("SELECT reinforced_at FROM engram.memory")
    access = Access(store.workspace, archived[0], 1, datetime.now(UTC))
    gone = Access(store.workspace, uuid4(), 1, datetime.now(UTC))
    assert await count_accesses(pool, sorted([access, gone], key=lambda one: one.key)) == []
    assert await counted(store, archived[0]) == 0
    assert await store.sql.fetchval("SELECT reinforced_at FROM engram.memory") == before


async def test_an_access_never_makes_a_time_earlier(store: Store, pool: Pool) -> None:
    [memory] = await aged(store, 1, 0)
    old = datetime(2020, 1, 1, tzinfo=UTC)
    before = await store.sql.fetchval("SELECT reinforced_at FROM engram.memory")
    await count_accesses(pool, [Access(store.workspace, memory, 1, old)])
    row = await store.sql.fetchrow("SELECT reinforced_at, last_accessed_at FROM engram.memory")
    assert (row["reinforced_at"], row["last_accessed_at"]) == (before, old)


async def test_memory_is_bounded_while_postgres_is_away_and_nothing_known_is_lost(
    store: Store, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await aged(store, 12, 1)
    monkeypatch.setattr(counting, "MAX_WAITING", 10)

    async def away(*_: object) -> list[Access]:
        raise OSError("away")

    name = "engram_accesses_total"
    dropped = REGISTRY.get_sample_value(name, {"outcome": "dropped"}) or 0.0
    accesses = Accesses(pool)
    with monkeypatch.context() as patch:
        patch.setattr(counting, "count_accesses", away)
        for _ in range(2):
            accesses.note(store.workspace, ids)
            await accesses.flush()
    await accesses.flush()
    assert [await counted(store, memory) for memory in ids] == [2] * 10 + [0] * 2
    assert REGISTRY.get_sample_value(name, {"outcome": "dropped"}) == dropped + 4


async def test_many_processes_flushing_the_same_rows_neither_wait_nor_deadlock(
    store: Store, pool: Pool
) -> None:
    ids = await aged(store, 200, 1)
    many = [Accesses(pool) for _ in range(4)]
    for accesses in many:
        accesses.note(store.workspace, ids)

    async def flushed(accesses: Accesses) -> None:
        async def nothing_waits() -> bool:
            await accesses.flush()
            return not accesses.waiting

        await eventually(nothing_waits)

    await asyncio.gather(*(flushed(accesses) for accesses in many))
    assert await store.sql.fetchval("SELECT min(access_count) FROM engram.memory") == 4
    assert await store.sql.fetchval("SELECT max(access_count) FROM engram.memory") == 4
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await store.sql.fetchval(deadlocks) == 0


async def test_the_update_touches_no_index(store: Store, pool: Pool) -> None:
    ids = await aged(store, 50, 1)
    await store.sql.execute("VACUUM engram.memory")
    await count_accesses(
        pool, [Access(store.workspace, memory, 1, datetime.now(UTC)) for memory in sorted(ids)]
    )
    rows = await store.sql.fetch(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'engram' AND tablename = 'memory'"
    )
    indexed = " ".join(row["indexdef"] for row in rows)
    for column in ("access_count", "last_accessed_at", "reinforced_at", "importance", "state"):
        assert column not in indexed


async def test_a_kill_loses_one_interval_at_most(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = {"ENGRAM_ACCESS_FLUSH_S": "0.2"}
    names = ("ingest", "embedder")
    async with cluster(postgres_server, nats_server, tmp_path, names, settings) as running:
        answer = await running.client.post(
            "/v1/memories?wait=embedded", json={"content": "likes green tea"}
        )
        assert answer.status_code == 201, answer.text

        async def search() -> None:
            answer = await running.client.post("/v1/memories/search", json={"query": "green tea"})
            assert len(answer.json()["results"]) == 1

        async def count() -> int:
            return int(await running.fetchval("SELECT access_count FROM engram.memory"))

        for _ in range(20):
            await search()

        async def all_written() -> bool:
            return await count() == 20

        await eventually(all_written)
        for _ in range(5):
            await search()
        running._signal("ingest", signal.SIGKILL)
        await running.services["ingest"].wait()
        # Lost is what came after the last flush; what was written before is there.
        assert 20 <= await count() <= 25
        await running.start("ingest")
        await search()

        async def goes_on() -> bool:
            return await count() >= 21

        await eventually(goes_on)
