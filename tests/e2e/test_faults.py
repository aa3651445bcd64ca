"""Scorecard R1 to R3: servers and workers are killed in mid-flight, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

# (kills, memories): the short forms run in `make test`, the full counts in `make test-chaos`.
SHORT = {"worker": (4, 600), "ingest": (3, 300), "nats": (3, 300), "postgres": (2, 300)}
FULL = {"worker": (30, 2000), "ingest": (10, 1000), "nats": (10, 1000), "postgres": (5, 1000)}


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """All services as processes on servers of this test's own."""
    async with cluster(postgres_server, nats_server, tmp_path) as everything:
        yield everything


async def under_fire(
    running: Cluster, kills: int, memories: int, kill: Callable[[], Awaitable[None]]
) -> None:
    """Write memories steadily and kill something evenly spread over the writing."""
    contents = [f"memory {number}" for number in range(memories)]
    for part in (contents[start::kills] for start in range(kills)):
        writing = asyncio.create_task(running.post_many(part))
        want = len(running.ledger.accepted) + len(part) // 3
        await eventually(lambda want=want: len(running.ledger.accepted) >= want, 60)
        await kill()
        await writing
    await running.settled()


@pytest.mark.timeout(300)
async def test_a_killed_embedder_loses_and_doubles_nothing(running: Cluster) -> None:
    kills, memories = SHORT["worker"]
    await under_fire(running, kills, memories, lambda: running.restart("embedder"))
    assert len(running.ledger.accepted) == memories


@pytest.mark.timeout(300)
async def test_a_killed_ingest_keeps_what_it_accepted_and_stores_it_once(running: Cluster) -> None:
    kills, memories = SHORT["ingest"]
    await under_fire(running, kills, memories, lambda: running.restart("ingest"))
    assert len(running.ledger.accepted) == memories


@pytest.mark.timeout(300)
async def test_a_killed_nats_server_only_costs_time(running: Cluster) -> None:
    kills, memories = SHORT["nats"]

    async def kill() -> None:
        running.nats.kill9()
        await running.nats.wait()
        await running.nats.restart()

    await under_fire(running, kills, memories, kill)
    assert len(running.ledger.accepted) == memories


@pytest.mark.timeout(300)
async def test_a_killed_postmaster_loses_nothing_and_pools_heal(running: Cluster) -> None:
    kills, memories = SHORT["postgres"]

    async def kill() -> None:
        running.postgres.kill9()
        await running.postgres.wait()
        await running.postgres.restart()
        answer = await _healed(running)
        assert answer < 10

    await under_fire(running, kills, memories, kill)
    assert len(running.ledger.accepted) == memories


async def _healed(running: Cluster) -> float:
    started = asyncio.get_running_loop().time()

    async def works() -> bool:
        return (await running.client.get("/v1/workspace")).status_code == 200

    await eventually(works, 10)
    return asyncio.get_running_loop().time() - started


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("what", FULL)
async def test_the_full_counts_of_the_scorecard(running: Cluster, what: str) -> None:
    kills, memories = FULL[what]

    async def nats() -> None:
        running.nats.kill9()
        await running.nats.wait()
        await running.nats.restart()

    async def postgres() -> None:
        running.postgres.kill9()
        await running.postgres.wait()
        await running.postgres.restart()

    kill = {
        "worker": lambda: running.restart("embedder"),
        "ingest": lambda: running.restart("ingest"),
        "nats": nats,
        "postgres": postgres,
    }[what]
    await under_fire(running, kills, memories, kill)
    assert len(running.ledger.accepted) == memories
