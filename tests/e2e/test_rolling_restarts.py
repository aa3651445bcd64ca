"""Scorecard R27: services are replaced one after the other under load; nothing is lost or doubled.

Also here: a service that is told to stop does so at once even when its provider's budget is used
up, and leaves what it had in hand to the next.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

SHORT, FULL = 4, 30
NAMES = ("ingest", "embedder", "embedder-2")
WRITERS = 4


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """One HTTP door and two embedders as processes."""
    async with cluster(postgres_server, nats_server, tmp_path, NAMES) as everything:
        yield everything


@contextlib.asynccontextmanager
async def steady_load(running: Cluster) -> AsyncIterator[None]:
    """Write one memory after another, from several writers, while inside."""
    ended = asyncio.Event()
    numbers = itertools.count()

    async def write() -> None:
        while not ended.is_set():
            await running.ledger.post(running.client, f"memory {next(numbers)} under way")

    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(write())
        yield
        ended.set()


async def rolled(running: Cluster, restarts: int) -> None:
    async with steady_load(running):
        for name in itertools.islice(itertools.cycle(NAMES), restarts):
            before = len(running.ledger.accepted)
            await running.roll(name)
            # Each restart meets work: it is accepted again before the next one.
            await eventually(lambda before=before: len(running.ledger.accepted) > before + 20, 30)
    await running.settled()


@pytest.mark.timeout(180)
async def test_rolling_restarts_under_load_lose_and_double_nothing(running: Cluster) -> None:
    await rolled(running, SHORT)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_thirty_rolling_restarts_lose_and_double_nothing(running: Cluster) -> None:
    await rolled(running, FULL)


@pytest.mark.timeout(180)
async def test_an_embedder_with_a_used_up_budget_stops_at_once_and_leaves_its_texts(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with FakeProvider(16) as fake:
        settings = {
            "ENGRAM_EMBEDDING": "openai:local-model@16",
            "ENGRAM_OPENAI_BASE_URL": fake.url,
            # Two calls at once and then one in three seconds: many wait, none beyond patience.
            "ENGRAM_PROVIDER_RPM": "20",
        }
        names = ("ingest", "embedder")
        async with cluster(postgres_server, nats_server, tmp_path, names, settings) as running:
            await running.post_many([f"waits for the budget {n}" for n in range(200)])
            await eventually(lambda: running.metric("embedder", "engram_provider_budget_share"), 30)
            started = time.monotonic()
            assert await running.terminate("embedder") == 0
            assert time.monotonic() - started < 5
            attempts = "SELECT coalesce(max(attempts), 0) FROM engram.embedding_failure"
            assert await running.fetchval(attempts) == 0
            # Due in some seconds, by the budget of before.
            await running.fetch("UPDATE engram.embedding_failure SET next_attempt = now()")
            await running.start("embedder", {"ENGRAM_PROVIDER_RPM": "100000"})
            await running.settled()
            await running.check_vectors(lambda text: vector(text, 16))
