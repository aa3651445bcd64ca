"""The relay: each outbox line one message, in any weather, by any number of relays."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest

from engram import events
from engram.serving.process import background
from engram.serving.relay import Relay
from engram_cli.runtime.nats import NatsServer
from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def outbox(store: Store) -> int:
    return int(await store.sql.fetchval("SELECT count(*) FROM engram.outbox"))


async def relayed(store: Store) -> bool:
    return await outbox(store) == 0


async def messages(nats_url: str) -> list[Any]:
    """Every message of the event stream, in order."""
    client = await nats.connect(nats_url)
    try:
        jetstream = client.jetstream()
        info = await jetstream.stream_info("ENGRAM_MEMORY")
        return [
            await jetstream.get_msg("ENGRAM_MEMORY", seq)
            for seq in range(info.state.first_seq, info.state.last_seq + 1)
        ]
    finally:
        await client.close()


async def test_each_line_is_one_message_with_its_uuid_and_only_ids(
    store: Store, nats_url: str
) -> None:
    made = await store.post("the sapphire heron", external_id="1")
    await store.client.patch(f"/v1/memories/{made['id']}", json={"content": "changed"})
    absorbed = await store.post("changed", external_id="2")
    await store.client.delete(f"/v1/memories/{made['id']}")
    await eventually(lambda: relayed(store))
    sent = await messages(nats_url)
    told = [(m.subject.rpartition(".")[2], events.decode_items_event(m.data)) for m in sent]
    assert [(kind, event.items) for kind, event in told[:3]] == [
        ("created", ((made["id"], 1),)),
        ("updated", ((made["id"], 2),)),
        ("merged", ((absorbed["id"], 1),)),
    ]
    assert told[3][0] == "deleted"
    assert sorted(told[3][1].items) == sorted([(made["id"], 3), (absorbed["id"], 2)])
    for message, (kind, event) in zip(sent, told, strict=True):
        assert message.headers["Nats-Msg-Id"] == event.event_id
        assert message.headers["Content-Type"] == events.CONTENT_TYPE
        assert (event.kind, event.workspace) == (kind, str(store.workspace))
        assert b"heron" not in message.data
        assert b"changed" not in message.data


async def test_an_event_names_at_most_256_memories(store: Store, nats_url: str) -> None:
    await store.import_([{"content": f"fact {n}"} for n in range(500)])
    await eventually(lambda: relayed(store))
    sizes = [len(events.decode_items_event(m.data).items) for m in await messages(nats_url)]
    assert sizes == [256, 244]


async def test_a_line_published_but_not_deleted_is_published_once(
    store: Store, nats_url: str
) -> None:
    await store.post("tea")
    await eventually(lambda: relayed(store))
    [message] = await messages(nats_url)
    await store.sql.execute(
        "INSERT INTO engram.outbox (uuid, workspace, subject, payload) VALUES ($1, $2, $3, $4)",
        *(message.headers["Nats-Msg-Id"], store.workspace, message.subject, message.data),
    )
    store.service.relay.wake()
    await eventually(lambda: relayed(store))
    assert len(await messages(nats_url)) == 1


async def test_while_nats_is_gone_lines_wait_and_then_go(
    database_url: str, superuser_url: str, nats_server: NatsServer
) -> None:
    async with open_store(database_url, nats_server.nats_url, superuser_url=superuser_url) as store:
        await store.post("before")
        await eventually(lambda: relayed(store))
        nats_server.kill9()
        await nats_server.wait()
        for n in range(20):
            await store.post(f"meanwhile {n}")
        assert await outbox(store) == 20
        await nats_server.restart()
        await eventually(lambda: relayed(store), timeout_s=30)
        found = [
            items
            for message in await messages(nats_server.nats_url)
            for items in events.decode_items_event(message.data).items
        ]
        rows = await store.sql.fetch("SELECT id FROM engram.memory")
        assert {memory_id for memory_id, _ in found} == {str(row["id"]) for row in rows}
        assert max(Counter(found).values()) == 1


async def test_relays_side_by_side_publish_every_line_once(store: Store, nats_url: str) -> None:
    await store.sql.execute(
        "INSERT INTO engram.outbox (uuid, workspace, subject, payload) "
        "SELECT gen_random_uuid(), $1, 'engram.v1.memory.embedded', 'x' "
        "FROM generate_series(1, 3000)",
        store.workspace,
    )
    others = [Relay(store.service.pool, store.service.jetstream) for _ in range(3)]
    async with background(*(relay.run() for relay in others)):
        await eventually(lambda: relayed(store), timeout_s=20)
    client = await nats.connect(nats_url)
    info = await client.jetstream().stream_info("ENGRAM_MEMORY")
    await client.close()
    assert info.state.messages == 3000


class Forgetful:
    """A broker's client whose waits forget a cancellation, as `asyncio.wait_for` may in 3.11."""

    def __init__(self, jetstream: Any) -> None:
        self._jetstream = jetstream
        self.asked = asyncio.Event()

    async def publish_async(self, *arguments: Any, **options: Any) -> Any:
        self.asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.2)
        return await self._jetstream.publish_async(*arguments, **options)


async def test_a_relay_ends_when_it_is_told_to_while_a_line_is_on_its_way(store: Store) -> None:
    forgetful = Forgetful(store.service.jetstream)
    relay = asyncio.create_task(Relay(store.service.pool, forgetful).run())
    while not forgetful.asked.is_set():
        await store.sql.execute(
            "INSERT INTO engram.outbox (uuid, workspace, subject, payload) "
            "VALUES (gen_random_uuid(), $1, 'engram.v1.memory.embedded', 'x')",
            store.workspace,
        )
        await asyncio.sleep(0.01)
    relay.cancel()
    await asyncio.wait([relay], timeout=20)
    assert relay.cancelled()
    await eventually(lambda: relayed(store))


async def test_a_line_committed_late_under_a_lower_number_is_found(
    store: Store, superuser_url: str
) -> None:
    import asyncpg

    late = await asyncpg.connect(superuser_url)
    transaction = late.transaction()
    await transaction.start()
    await late.execute(
        "INSERT INTO engram.outbox (uuid, workspace, subject, payload) "
        "VALUES (gen_random_uuid(), $1, 'engram.v1.memory.embedded', 'x')",
        store.workspace,
    )
    await asyncio.gather(*(store.post(f"fact {n}") for n in range(20)))
    await eventually(lambda: relayed(store))
    await transaction.commit()
    await late.close()
    await eventually(lambda: relayed(store))


async def test_a_relay_that_is_woken_while_it_is_stopped_stops(store: Store) -> None:
    # asyncio.wait_for of Python 3.11 forgets a cancellation that comes with what it waits for.
    for ticks in range(6):
        relay = Relay(store.service.pool, store.service.jetstream)
        running = asyncio.create_task(relay.run())
        await eventually(lambda relay=relay: bool(relay._woken._waiters))
        relay.wake()
        for _ in range(ticks):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=20)
        assert done, ticks
