"""Scorecard R5: the event stream is deleted or emptied while all runs, and nothing is lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from nats.js import JetStreamContext
from prometheus_client.parser import text_string_to_metric_families

from engram.serving.process import connected
from engram.serving.watchdog import Watchdog
from engram.settings import Settings
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

STREAM = "ENGRAM_MEMORY"
DEADLINE_S = 120.0
MEMORIES = 120


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """All services as processes on servers of this test's own."""
    async with cluster(postgres_server, nats_server, tmp_path) as everything:
        yield everything


@contextlib.asynccontextmanager
async def watching(running: Cluster) -> AsyncIterator[tuple[JetStreamContext, Watchdog]]:
    """A watchdog of this process's own, so that no test waits for a service's turn to look."""
    settings = Settings(database_url=running.postgres.database_url, nats_url=running.nats.nats_url)
    async with connected("test", settings) as service:
        yield service.jetstream, Watchdog(service.pool, service.jetstream, service.spaces, 1)


async def lose(jetstream: JetStreamContext, how: str) -> None:
    state = (await jetstream.stream_info(STREAM)).state
    assert state.messages > 1
    match how:
        case "deleted":
            await jetstream.delete_stream(STREAM)
        case "purged":
            await jetstream.purge_stream(STREAM)
        case "truncated":
            await jetstream.purge_stream(STREAM, seq=(state.first_seq + state.last_seq) // 2 + 1)


async def owe_bells(running: Cluster) -> None:
    """Write memories whose bells lie in the stream: the embedder is away."""
    await running.terminate("embedder")
    await running.post_many([f"before the loss {number}" for number in range(MEMORIES)])
    await eventually(lambda: _announced(running), 30)


async def _announced(running: Cluster) -> bool:
    return bool(await running.fetchval("SELECT count(*) = 0 FROM engram.outbox"))


async def counted(running: Cluster, name: str, **labels: str) -> float:
    """Add up a metric over the services that are there."""
    total = 0.0
    async with httpx.AsyncClient() as client:
        for service in running.services.values():
            port = service.spec.env["ENGRAM_OPS_PORT"]
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == name and labels.items() <= sample.labels.items():
                        total += sample.value
    return total


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["deleted", "purged"])
async def test_what_a_lost_stream_had_to_tell_is_found_again(running: Cluster, how: str) -> None:
    async with watching(running) as (jetstream, watchdog):
        await owe_bells(running)
        await watchdog.look()
        writing = asyncio.create_task(
            running.post_many([f"during the loss {number}" for number in range(MEMORIES)])
        )
        await lose(jetstream, how)
        assert await watchdog.look() is True
        await writing
        # Half a minute later, as reconcile sees it: nothing is on its way any more.
        await running.fetch(
            "UPDATE engram.memory SET versioned_at = versioned_at - interval '1 minute'"
        )
        await running.start("embedder")
        await watchdog.look()
        await running.settled()
    assert len(running.ledger.accepted) == 2 * MEMORIES
    assert await counted(running, "engram_reconcile_repairs_total", repair="due") > 0


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["deleted", "purged", "truncated"])
async def test_the_services_notice_and_repair_it_by_themselves(running: Cluster, how: str) -> None:
    settings = Settings(database_url=running.postgres.database_url, nats_url=running.nats.nats_url)
    await owe_bells(running)
    async with connected("test", settings) as service:
        writing = asyncio.create_task(
            running.post_many([f"during the loss {number}" for number in range(20 * MEMORIES)], 8)
        )
        await lose(service.jetstream, how)
        lost_at = time.monotonic()
    # Its start makes a missing stream again, before any watchdog has seen that it was missing.
    await running.start("embedder")
    await writing
    await running.settled(DEADLINE_S - (time.monotonic() - lost_at))
    alarms = await counted(running, "engram_topology_repairs_total", kind="stream")
    alarms += await counted(running, "engram_stream_losses_total")
    assert alarms > 0
    assert await counted(running, "engram_reconcile_repairs_total", repair="due") > 0
