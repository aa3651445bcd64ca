"""Topology, watchdog and reconcile: what is missing is made again and nothing stays unembedded."""

from collections.abc import AsyncIterator
from dataclasses import replace

import nats.js.errors
import pytest
from prometheus_client import REGISTRY

from engram.broker import topology
from engram.errors import UnavailableError
from engram.serving.watchdog import Watchdog
from engram.storage import sweeps
from engram_cli.runtime.nats import NatsServer
from engram_curator.reconcile import reconcile as reconcile_vectors
from engram_curator.schedule import run_one
from engram_curator.service import duties
from tests.support.store import Store, embedding_lanes, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        table = duties()
        async with opened.service.pool.acquire() as connection:
            await sweeps.ensure_sweeps(
                connection, {name: duty.every for name, duty in table.items()}
            )
        yield opened


async def test_everything_in_the_table_is_there_after_a_start(store: Store) -> None:
    jetstream = store.service.jetstream
    for stream in topology.STREAMS:
        info = await jetstream.stream_info(str(stream.name))
        assert topology._agrees(stream, info.config), stream.name
    for durable in topology.durables(store.service.spaces.active):
        found = await jetstream.consumer_info(durable.stream, durable.name)
        assert topology._agrees(durable.config, found.config), durable.name


async def test_reconciling_again_makes_and_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError

    jetstream = store.service.jetstream
    for name in ("add_stream", "update_stream", "add_consumer"):
        monkeypatch.setattr(jetstream, name, never)
    made = await topology.reconcile(jetstream, store.service.spaces.active)
    assert not made.anything


async def test_a_changed_setting_is_put_right_and_messages_stay(store: Store) -> None:
    jetstream = store.service.jetstream
    await jetstream.publish("engram.v1.memory.embedded", b"x")
    await jetstream.update_stream(replace(topology.MEMORY, max_age=600.0, description="by hand"))
    made = await topology.reconcile(jetstream, store.service.spaces.active)
    info = await jetstream.stream_info("ENGRAM_MEMORY")
    assert (info.config.max_age, info.config.description) == (
        topology.MEMORY.max_age,
        topology.MEMORY.description,
    )
    assert info.state.messages == 1
    assert not made.anything


async def test_a_changed_consumer_is_put_right(store: Store) -> None:
    jetstream = store.service.jetstream
    durable = topology.INGEST_DURABLE
    await jetstream.add_consumer(durable.stream, replace(durable.config, max_ack_pending=1))
    await topology.reconcile(jetstream, [])
    found = await jetstream.consumer_info(durable.stream, durable.name)
    assert found.config.max_ack_pending == durable.config.max_ack_pending


async def test_streams_are_as_large_as_the_setting_says(store: Store) -> None:
    jetstream, smaller = store.service.jetstream, 256 * 1024**2
    made = await topology.reconcile(jetstream, [], max_bytes=smaller)
    assert not made.anything
    for stream in topology.STREAMS:
        assert (await jetstream.stream_info(str(stream.name))).config.max_bytes == smaller
    watchdog = Watchdog(store.service.pool, jetstream, store.service.spaces, 1, max_bytes=smaller)
    assert await watchdog.look() is False
    assert (await jetstream.stream_info("ENGRAM_MEMORY")).config.max_bytes == smaller


@pytest.mark.parametrize("what", ["stream", "consumer"])
async def test_the_watchdog_makes_again_what_was_deleted_and_reconcile_due(
    store: Store, what: str
) -> None:
    service = store.service
    watchdog = Watchdog(service.pool, service.jetstream, service.spaces, 1)
    assert await watchdog.look() is False
    await store.sql.execute("UPDATE engram.sweep SET next_due = now() + interval '1 day'")
    labels = {"kind": "stream" if what == "stream" else "durable"}
    before = REGISTRY.get_sample_value("engram_topology_repairs_total", labels) or 0
    if what == "stream":
        await service.jetstream.delete_stream("ENGRAM_MEMORY")
    else:
        await service.jetstream.delete_consumer("ENGRAM_MEMORY", "embed-live-1")
    assert await watchdog.look() is True
    assert (await service.jetstream.consumer_info("ENGRAM_MEMORY", "embed-live-1")).name
    assert (REGISTRY.get_sample_value("engram_topology_repairs_total", labels) or 0) > before
    due = await store.sql.fetch("SELECT name FROM engram.sweep WHERE next_due <= now()")
    assert [row["name"] for row in due] == ["reconcile"]
    assert await watchdog.look() is False


async def test_the_watchdog_waits_out_a_broker_that_is_gone(
    database_url: str, nats_server: NatsServer
) -> None:
    async with open_store(database_url, nats_server.nats_url) as store:
        service = store.service
        nats_server.kill9()
        await nats_server.wait()
        watchdog = Watchdog(service.pool, service.jetstream, service.spaces, 1)
        assert await watchdog.look() is False
        await nats_server.restart()

        async def healthy() -> bool:
            try:
                return not (await topology.reconcile(service.jetstream, [1])).anything
            except UnavailableError:
                return False

        await eventually(healthy, timeout_s=20)


async def test_the_schedule_finds_what_a_deleted_event_stream_lost(store: Store) -> None:
    made = [(await store.post(f"fact {n}"))["id"] for n in range(20)]
    jetstream = store.service.jetstream
    await eventually(lambda: _relayed(store))
    await jetstream.delete_stream("ENGRAM_MEMORY")
    service = store.service
    assert await Watchdog(service.pool, jetstream, service.spaces, 1).look()
    # Memories are given half a minute to come by the stream before they count as missing.
    await store.sql.execute(
        "UPDATE engram.memory SET versioned_at = versioned_at - interval '1 minute'"
    )
    await store.sql.execute(
        "UPDATE engram.sweep SET next_due = 'infinity' WHERE name <> 'reconcile'"
    )
    async with embedding_lanes(service):
        assert await run_one(service, duties()) == "reconcile"

        async def embedded() -> bool:
            rows = await store.sql.fetch("SELECT memory_id FROM engram_vec.space_1")
            return {str(row["memory_id"]) for row in rows} == set(made)

        await eventually(embedded)
        left = await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure")
    assert left == 0


async def _relayed(store: Store) -> bool:
    return bool(await store.sql.fetchval("SELECT count(*) = 0 FROM engram.outbox"))


async def test_reconcile_leaves_alone_what_is_young_dead_deleted_or_current(
    store: Store,
) -> None:
    young, dead, gone = [await store.post(text) for text in ("young", "dead", "gone")]
    await store.client.delete(f"/v1/memories/{gone['id']}")
    await store.sql.execute(
        "UPDATE engram.memory SET versioned_at = versioned_at - interval '1 minute' WHERE id <> $1",
        young["id"],
    )
    await store.sql.execute(
        "INSERT INTO engram.embedding_failure (workspace, memory_id, space, version, attempts, "
        "class, error, next_attempt, dead) VALUES ($1, $2, 1, 1, 3, 'input', 'x', now(), true)",
        *(store.workspace, dead["id"]),
    )
    await reconcile_vectors(store.service)
    rows = await store.sql.fetch("SELECT memory_id, dead FROM engram.embedding_failure")
    assert [(str(row["memory_id"]), row["dead"]) for row in rows] == [(dead["id"], True)]


async def test_a_missing_stream_is_an_error_to_the_client_library(store: Store) -> None:
    await store.service.jetstream.delete_stream("ENGRAM_INGEST")
    with pytest.raises(nats.js.errors.NotFoundError):
        await store.service.jetstream.stream_info("ENGRAM_INGEST")
    made = await topology.reconcile(store.service.jetstream, [1])
    assert made.streams == ("ENGRAM_INGEST",)
    assert made.durables == ("ingest",)
