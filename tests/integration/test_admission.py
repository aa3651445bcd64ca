"""Back-pressure: a workspace before all, 429 with a time, recovery, and never for a provider."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from engram.embedding.provider import ProviderError
from engram.errors import BusyError
from engram_ingest.admission import Admission
from tests.support.store import Store, client_of, embedding_lanes, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, queue_limit=8, outbox_limit=40
    ) as opened:
        yield opened


async def post(client: httpx.AsyncClient, text: str) -> httpx.Response:
    return await client.post("/v1/memories", json={"content": text})


async def test_a_workspace_with_a_full_queue_is_refused_and_another_is_not(
    store: Store, superuser_url: str
) -> None:
    other, key = await store.other_workspace()
    await store.post("first")
    held = await asyncpg.connect(superuser_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT 1 FROM engram.namespace FOR UPDATE")
    # Two wait for the namespace; that is a quarter of eight, so a third one is refused.
    waiting = [asyncio.create_task(post(store.client, f"fact {n}")) for n in range(2)]
    await eventually(lambda: _queued(store, 2))
    refused = await post(store.client, "too much")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_busy")
    assert refused.headers["retry-after"] == "1"
    async with client_of(store.app, key) as client:
        assert (await post(client, "mine")).status_code == 201
    assert other != store.workspace
    await transaction.rollback()
    await held.close()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [201, 201]
    assert (await post(store.client, "too much")).status_code == 201


def _queued(store: Store, count: int) -> bool:
    return store.app.state.doors.committer._admission._total >= count


async def fill(store: Store, workspace: UUID, lines: int) -> None:
    # Lines the relay cannot take, as if the broker were behind.
    await store.sql.execute(
        "INSERT INTO engram.outbox (uuid, workspace, subject, payload) "
        "SELECT gen_random_uuid(), $1, 'nobody.listens', '' FROM generate_series(1, $2)",
        *(workspace, lines),
    )


async def test_a_deep_outbox_refuses_its_workspace_first_then_all_and_recovers(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, outbox_limit=40
    ) as store:
        blocked = await asyncpg.connect(superuser_url)
        transaction = blocked.transaction()
        _, key = await store.other_workspace()
        admission = store.app.state.doors.committer._admission
        await fill(store, store.workspace, 12)
        await transaction.start()
        await blocked.execute("SELECT 1 FROM engram.outbox FOR UPDATE")
        await admission.sample(store.service.pool)
        refused = await post(store.client, "mine")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        async with client_of(store.app, key) as client:
            assert (await post(client, "theirs")).status_code == 201
            await fill(store, uuid4(), 40)
            await admission.sample(store.service.pool)
            assert (await post(client, "theirs too")).status_code == 429
        await transaction.rollback()
        await blocked.close()
        await store.sql.execute("DELETE FROM engram.outbox")
        await admission.sample(store.service.pool)
        assert (await post(store.client, "mine")).status_code == 201


async def test_a_provider_that_is_down_never_closes_ingest(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, queue_limit=40, outbox_limit=400
    ) as store:

        async def down(*_: object) -> None:
            raise ProviderError("server", "It is down.")

        store.service.spaces.provider(1).embed = down  # type: ignore[method-assign]  # it is down
        async with embedding_lanes(store.service):
            for n in range(300):
                assert (await post(store.client, f"fact {n}")).status_code == 201

            async def written_down() -> bool:
                sql = "SELECT count(*) FROM engram.embedding_failure WHERE NOT dead"
                return bool(await store.sql.fetchval(sql) == 300)

            await eventually(written_down, timeout_s=20)
            found = await store.client.post("/v1/memories/search", json={"query": "fact 7"})
            assert (found.status_code, found.json()["degraded"]) == (200, True)
            counts = (await store.client.get("/v1/workspace")).json()["vectors"]
            assert list(counts.values()) == [{"current": 0, "pending": 300, "dead": 0}]


def test_what_enters_and_leaves_adds_up() -> None:
    admission, mine = Admission(queue_limit=8, outbox_limit=8), uuid4()
    others = [uuid4() for _ in range(4)]
    for other in others:
        admission.enter(other, 2)
    with pytest.raises(BusyError) as full:
        admission.enter(mine, 1)
    assert full.value.retry_after_s == 1
    for other in others:
        admission.leave(other, 2)
    admission.enter(mine, 500)
    with pytest.raises(BusyError):
        admission.enter(mine, 1)
    admission.leave(mine, 500)
    admission.enter(mine, 1)
