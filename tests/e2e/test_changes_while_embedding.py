"""Scorecard R14 and R15: memories are edited and erased while they are embedded, again and again.

The provider takes a random time over each answer, so that answers overtake one another.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from engram_cli.bench.fake_latency import Latency
from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster

DIMENSIONS = 16
SHORT, FULL = 150, 3000
NAMES = ("ingest", "embedder", "embedder-2")
LATENCY = Latency("lognormal", 0.05, 1.0)


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """The HTTP door and two embedders, whose provider is slow by chance."""
    async with FakeProvider(DIMENSIONS, latency_s=LATENCY, seed=11) as fake:
        settings = {
            "ENGRAM_EMBEDDING": f"openai:local-model@{DIMENSIONS}",
            "ENGRAM_OPENAI_BASE_URL": fake.url,
        }
        async with cluster(postgres_server, nats_server, tmp_path, NAMES, settings) as everything:
            yield everything


async def lead_a_life(running: Cluster, number: int) -> None:
    """Write a memory and change it up to three times; one in four is erased in the end."""
    chance = random.Random(number)
    ledger, client = running.ledger, running.client
    memory_id = await ledger.post(client, f"memory {number}")
    for edit in range(chance.randint(0, 3)):
        await asyncio.sleep(chance.expovariate(10))  # falls before, into or after its embedding
        await ledger.change(client, memory_id, f"memory {number}, edit {edit}")
    if chance.random() < 0.25:
        await asyncio.sleep(chance.expovariate(10))  # likewise
        await ledger.delete(client, memory_id)


async def lead_lives(running: Cluster, memories: int) -> None:
    gate = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with gate:
            await lead_a_life(running, number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(memories):
            tasks.create_task(one(number))


async def late(running: Cluster) -> float:
    """Return how many vectors came too late and were refused."""
    names = ("embedder", "embedder-2")
    return sum([await running.metric(name, "engram_late_vectors_total") for name in names])


async def quiet(running: Cluster) -> None:
    """See that nothing is on its way any more, so that nothing late can still come."""
    await running.terminate("embedder")
    await running.terminate("embedder-2")
    await running.check()
    await running.check_vectors(lambda text: vector(text, DIMENSIONS))


async def old_texts(running: Cluster) -> list[UUID]:
    """Return the erased memories of which some text is left anywhere it could be."""
    rows = await running.fetch(
        "SELECT id FROM engram.memory m WHERE state = 'deleted' AND (content <> '' OR EXISTS "
        "(SELECT 1 FROM engram.memory_revision r WHERE r.memory_id = m.id))"
    )
    return [row["id"] for row in rows]


async def hold(running: Cluster, memories: int) -> None:
    await lead_lives(running, memories)
    assert await late(running) > 0, "nothing was changed while it was embedded"
    assert running.ledger.deleted
    await running.settled()
    assert await old_texts(running) == []
    await quiet(running)


@pytest.mark.timeout(120)
async def test_edits_and_erasures_during_embedding_leave_nothing_stale_and_revive_nothing(
    running: Cluster,
) -> None:
    await hold(running, SHORT)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_thousands_of_edits_and_erasures_during_embedding(running: Cluster) -> None:
    await hold(running, FULL)
