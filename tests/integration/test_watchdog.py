"""The watchdog: bells that are lost without anything missing are noticed, and reconcile is due."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from nats.js import JetStreamContext
from prometheus_client import REGISTRY

from engram.broker import topology
from engram.serving.watchdog import Watchdog
from engram.storage import sweeps
from tests.support.store import Store, embedding_lanes, open_store
from tests.support.wait import eventually

STREAM = "ENGRAM_MEMORY"


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    """A store whose reconcile ran a second ago and is not due for an hour."""
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        async with opened.service.pool.acquire() as connection:
            await sweeps.ensure_sweeps(connection, {"reconcile": timedelta(hours=1)})
        await ran(opened, "now()")
        yield opened


async def ran(store: Store, when: str) -> None:
    """Have reconcile begun at a time, and its next turn far off."""
    await store.sql.execute(
        f"UPDATE engram.sweep SET last_started = {when}, next_due = now() + interval '1 hour'"
    )


async def due(store: Store) -> bool:
    """Whether reconcile is due; it is far off again afterwards."""
    found = await store.sql.fetchval("SELECT next_due <= now() FROM engram.sweep")
    await store.sql.execute("UPDATE engram.sweep SET next_due = now() + interval '1 hour'")
    return bool(found)


def watchdog(store: Store, reconnects: list[int] | None = None) -> Watchdog:
    service = store.service
    counted = reconnects or [0]
    return Watchdog(service.pool, service.jetstream, service.spaces, 1, lambda: counted[0])


def losses(kind: str) -> float:
    return REGISTRY.get_sample_value("engram_stream_losses_total", {"kind": kind}) or 0.0


async def announced(store: Store, *contents: str) -> JetStreamContext:
    """Store memories and see their bells in the stream."""
    for content in contents:
        await store.post(content)

    async def published() -> bool:
        return bool(await store.sql.fetchval("SELECT count(*) = 0 FROM engram.outbox"))

    await eventually(published)
    return store.service.jetstream


async def test_a_purge_of_bells_nobody_had_taken_makes_reconcile_due(store: Store) -> None:
    dog = watchdog(store)
    jetstream = await announced(store, "a", "b")
    assert await dog.look() is False
    before = losses("purged")
    await jetstream.purge_stream(STREAM)
    assert await dog.look() is True
    assert await due(store)
    assert losses("purged") == before + 1
    assert await dog.look() is False


async def test_a_purge_of_what_came_since_the_last_look_is_noticed(store: Store) -> None:
    dog = watchdog(store)
    assert await dog.look() is False
    jetstream = await announced(store, "a")
    await jetstream.purge_stream(STREAM)
    assert await dog.look() is True
    assert await due(store)


async def test_cutting_off_the_oldest_bells_is_noticed(store: Store) -> None:
    dog = watchdog(store)
    jetstream = await announced(store, "a", "b", "c")
    await dog.look()
    await jetstream.purge_stream(STREAM, keep=1)
    assert await dog.look() is True


async def test_a_bell_deleted_from_the_middle_is_noticed(store: Store) -> None:
    dog = watchdog(store)
    jetstream = await announced(store, "a")
    await announced(store, "b")
    await announced(store, "c")
    await dog.look()
    state = (await jetstream.stream_info(STREAM)).state
    before = losses("removed")
    await jetstream.delete_msg(STREAM, state.first_seq + 1)
    assert await dog.look() is True
    assert losses("removed") == before + 1


async def test_a_purge_of_what_every_lane_is_done_with_loses_nothing(store: Store) -> None:
    dog = watchdog(store)
    async with embedding_lanes(store.service):
        jetstream = await announced(store, "a", "b")

        async def quiet() -> bool:
            info = await jetstream.consumer_info(STREAM, "embed-live-1")
            lines = await store.sql.fetchval("SELECT count(*) FROM engram.outbox")
            vectors = await store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1")
            return (info.num_pending, info.num_ack_pending, lines, vectors) == (0, 0, 0, 2)

        await eventually(quiet)
        await dog.look()
        await jetstream.purge_stream(STREAM)
        assert await dog.look() is False
    assert not await due(store)


async def test_a_stream_another_process_made_anew_is_noticed(store: Store) -> None:
    dog = watchdog(store)
    await dog.look()
    before = losses("made_anew")
    await store.service.jetstream.delete_stream(STREAM)
    assert (await topology.reconcile(store.service.jetstream, [1])).streams == (STREAM,)
    assert await dog.look() is True
    assert await due(store)
    assert losses("made_anew") == before + 1


async def test_a_process_that_starts_on_a_new_stream_notices_an_old_store(store: Store) -> None:
    """Its own start makes the stream again: nobody else may have been there to see it missing."""
    assert await watchdog(store).look() is False
    assert not await due(store)
    await ran(store, "now() - interval '1 minute'")
    assert await watchdog(store).look() is True
    assert await due(store)


async def test_reconcile_is_due_until_a_pass_began_late_enough_to_see_the_young(
    store: Store,
) -> None:
    reconnects = [1]
    dog = watchdog(store, reconnects)
    assert await dog.look() is False
    assert not await due(store)
    reconnects[0] = 2
    for _ in range(2):
        assert await dog.look() is False
        assert await due(store)
    # This pass left alone what was younger than the grace when the connection was lost.
    await ran(store, "now() + interval '20 seconds'")
    await dog.look()
    assert await due(store)
    await ran(store, "now() + interval '40 seconds'")
    await dog.look()
    assert not await due(store)
