"""The bulk lane: what is above a workspace's live share waits its turn, and nothing is lost."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from engram.storage import bulk, vectors
from engram_cli.bench.fake_provider import FakeProvider
from tests.support.store import Store, client_of, embedding_lanes, open_store
from tests.support.wait import eventually

DIMENSIONS = 32
LEASE = timedelta(seconds=60)
NOBODY = UUID(int=0)


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    """A provider whose answers a test can hold back."""
    async with FakeProvider(DIMENSIONS) as server:
        yield server


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, fake: FakeProvider
) -> AsyncIterator[Store]:
    """A store without an embedder: tests start one when they have made a backlog."""
    async with open_store(
        database_url,
        nats_url,
        f"openai:local-model@{DIMENSIONS}",
        superuser_url=superuser_url,
        openai_base_url=fake.url,
        live_share=50,
    ) as opened:
        yield opened


async def current(store: Store, workspace: UUID) -> int:
    return int(
        await store.sql.fetchval(
            "SELECT count(*) FROM engram_vec.space_1 v JOIN engram.memory m "
            "ON m.id = v.memory_id AND m.version = v.version AND m.workspace = v.workspace "
            "WHERE m.workspace = $1",
            workspace,
        )
    )


async def queued(store: Store) -> int:
    return int(
        await store.sql.fetchval("SELECT coalesce(sum(cardinality(ids)), 0) FROM engram.bulk_batch")
    )


def many(count: int, name: str = "text") -> list[dict[str, str]]:
    return [{"content": f"{name} number {n}", "external_id": f"{name}/{n}"} for n in range(count)]


async def test_what_is_above_the_share_goes_through_the_queue_and_none_is_lost(
    store: Store,
) -> None:
    async with embedding_lanes(store.service):
        for part in range(4):
            await store.import_(many(400, f"part {part}"))

        async def done() -> bool:
            return await current(store, store.workspace) == 1600 and await queued(store) == 0

        await eventually(done, 30)


async def test_one_workspaces_thousands_never_delay_anothers_single_memory(
    store: Store, fake: FakeProvider
) -> None:
    """The provider takes its time: the big one cannot be done when the small one is."""
    other, key = await store.other_workspace()
    fake.latency_s = 0.2
    async with embedding_lanes(store.service), client_of(store.app, key) as client:
        for part in range(16):
            await store.import_(many(500, f"big {part}"))
        await eventually(lambda: queued(store), 10)
        answer = await client.post("/v1/memories", json={"content": "the other one's only memory"})
        assert answer.status_code == 201

        async def done() -> bool:
            return await current(store, other) == 1

        await eventually(done, 10)
        assert await current(store, store.workspace) < 8000
        fake.latency_s = 0.0
        await eventually(lambda: _all(store, 8000), 60)


async def _all(store: Store, count: int) -> bool:
    return await current(store, store.workspace) == count


async def test_batches_are_claimed_in_turn_over_workspaces_and_only_once(store: Store) -> None:
    workspaces = sorted(uuid4() for _ in range(3))
    pool = store.service.pool
    async with pool.acquire() as connection:
        for _ in range(4):
            await bulk.add(connection, 1, [(w, [uuid4() for _ in range(100)]) for w in workspaces])
        served, last, seen = [], NOBODY, set()
        while (claim := await bulk.claim(connection, 1, last, 100, LEASE)) is not None:
            last = claim.last
            served.append(workspaces.index(claim.memories[0][0]))
            assert len(claim.memories) == 100
            assert not seen & set(claim.batches)
            seen.update(claim.batches)
    assert served == [0, 1, 2] * 4


async def test_a_claim_takes_several_small_batches_and_one_that_is_too_large(store: Store) -> None:
    workspace = uuid4()
    async with store.service.pool.acquire() as connection:
        for size in (700, 10, 10, 10):
            await bulk.add(connection, 1, [(workspace, [uuid4() for _ in range(size)])])
        first = await bulk.claim(connection, 1, NOBODY, 512, LEASE)
        second = await bulk.claim(connection, 1, NOBODY, 512, LEASE)
    assert first is not None
    assert second is not None
    assert (len(first.memories), len(second.memories)) == (700, 30)


async def test_what_a_dead_worker_held_is_free_again_when_its_lease_ends(store: Store) -> None:
    async with store.service.pool.acquire() as connection:
        await bulk.add(connection, 1, [(uuid4(), [uuid4()])])
        claim = await bulk.claim(connection, 1, NOBODY, 10, LEASE)
        assert claim is not None
        assert await bulk.claim(connection, 1, NOBODY, 10, LEASE) is None
        await bulk.extend(connection, claim.batches, timedelta(0))
        assert await bulk.claim(connection, 1, NOBODY, 10, LEASE) is not None


async def test_a_provider_that_is_down_is_not_asked_for_the_queue_and_it_drains_afterwards(
    store: Store, fake: FakeProvider
) -> None:
    fake.script("status", status=500, times=None)
    async with embedding_lanes(store.service):
        await store.post("finds out that the provider is down")
        await eventually(lambda: _paused(store), 20)
        calls = fake.requests.calls
        for part in range(4):
            await store.import_(many(100, f"part {part}"))
        await eventually(lambda: _queued_all(store, 400), 10)
        # Nothing but probes, however much waits.
        assert fake.requests.calls <= calls + 2
        fake.clear()
        await eventually(lambda: _all(store, 401), 60)
        assert await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure") == 0


async def _paused(store: Store) -> bool:
    return bool(await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure"))


async def _queued_all(store: Store, count: int) -> bool:
    return await queued(store) == count


async def test_retries_are_claimed_in_turn_over_workspaces(store: Store) -> None:
    other, key = await store.other_workspace()
    await store.import_(many(30))
    async with client_of(store.app, key) as client:
        await client.post("/v1/memories", json={"content": "the only one"})
    await store.sql.execute(
        "INSERT INTO engram.embedding_failure "
        "(workspace, memory_id, space, version, attempts, class, error, next_attempt) "
        "SELECT workspace, id, 1, version, 1, 'server', 'x', "
        "now() - CASE WHEN workspace = $1 THEN interval '1 s' ELSE interval '1 hour' END "
        "FROM engram.memory",
        other,
    )
    served: list[list[UUID]] = []
    last = NOBODY
    for _ in range(4):
        async with store.service.pool.acquire() as connection, connection.transaction():
            texts, last, claimed = await vectors.due(connection, 1, last, 10)
        assert len(texts) == claimed
        served.append([text.workspace for text in texts])
    # The big one's are an hour overdue, and still the small one has its turn at once.
    assert any(other in workspaces for workspaces in served[:2])
    assert sorted(map(len, served)) == [1, 10, 10, 10]


async def test_draining_finishes_what_is_in_flight_and_leaves_the_rest_in_the_queue(
    store: Store, fake: FakeProvider
) -> None:
    fake.latency_s = 0.3
    async with embedding_lanes(store.service):
        for part in range(10):
            await store.import_(many(500, f"part {part}"))
        await eventually(lambda: queued(store), 10)
    assert fake.requests.open_now == 0
    left = await queued(store)
    assert 0 < left < 5000
    fake.latency_s = 0.0
    await store.sql.execute("UPDATE engram.bulk_batch SET claimed_until = '-infinity'")
    async with embedding_lanes(store.service):
        await eventually(lambda: _all(store, 5000), 60)
