"""Scorecard R9: a provider that limits, fails or hangs is asked seldom, and all is done later."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engram.domain.breaker import PROOF_S
from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

DIMENSIONS = 32
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429, "retry_after": "2"},
    "429 that names no time": {"kind": "status", "status": 429},
    "500": {"kind": "status", "status": 500},
    "501": {"kind": "status", "status": 501},
    "529": {"kind": "status", "status": 529},
    "hang": {"kind": "hang"},
    "drip": {"kind": "drip", "over_s": 600.0},
    "reset": {"kind": "reset"},
    "html": {"kind": "html"},
}
SHORT = [
    ("voyage", "429"),
    ("openai", "429 that names no time"),
    ("openai", "500"),
    ("voyage", "hang"),
]
# What is in flight when it begins, the known-good texts that judge it, and a reserve.
FIRST_CALLS = 10
# No sooner than Retry-After says, else once a second, by each of the two in flight at the least.
LIMITED_CALLS_PER_S = 2.0
PROBE_EVERY_S = 5.0
# Within five seconds of a known-good answer a failure is taken for the text's own, and counted; the
# third in a row is not.
COUNTED = 2
Servers = tuple[PostgresServer, NatsServer, Path]


@pytest.fixture
def servers(postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path) -> Servers:
    return postgres_server, nats_server, tmp_path


def told(provider: str, fake: FakeProvider, timeout_s: float) -> Mapping[str, str]:
    """Return the settings that name the fake as this provider."""
    return {
        "ENGRAM_EMBEDDING": f"{provider}:fake-model@{DIMENSIONS}",
        "ENGRAM_OPENAI_BASE_URL": fake.url,
        "ENGRAM_VOYAGE_BASE_URL": fake.url,
        "VOYAGE_API_KEY": "pa-fake",
        "ENGRAM_PROVIDER_TIMEOUT_S": str(timeout_s),
    }


@asynccontextmanager
async def asking(
    servers: Servers, provider: str, timeout_s: float = 1.0
) -> AsyncIterator[tuple[Cluster, FakeProvider]]:
    """Run ingest and an embedder that ask a fake provider; one memory is embedded already."""
    async with FakeProvider(DIMENSIONS) as fake:
        chosen = told(provider, fake, timeout_s)
        async with cluster(*servers, ("ingest", "embedder"), chosen) as running:
            await running.ledger.post(running.client, "before anything goes wrong")
            await running.settled()
            yield running, fake


async def outage(
    running: Cluster, fake: FakeProvider, fault: str, memories: int, lasts_s: float
) -> None:
    """Let the provider fail while memories are written, then answer again; all are embedded."""
    limited = fault.startswith("429")
    known, calls, began = len(running.ledger.accepted), fake.requests.calls, time.monotonic()
    fake.script(**FAULTS[fault], times=None)
    await running.post_many([f"written during {fault}, {number}" for number in range(memories)])
    found = await running.client.post("/v1/memories/search", json={"query": "anything"})
    assert found.status_code == 200
    # A call that hangs fails by its timeout, and so does the known-good text sent after it.
    await eventually(lambda: running.fetchval(FAILING), 120)
    await asyncio.sleep(lasts_s)  # an outage is a length of time
    assert await running.fetchval("SELECT count(*) FROM engram_vec.space_1") == known
    assert await running.fetchval(ATTEMPTS) <= (0 if limited else COUNTED)
    asked, elapsed_s = fake.requests.calls - calls, time.monotonic() - began
    rate = LIMITED_CALLS_PER_S if limited else 1 / PROBE_EVERY_S
    assert asked <= FIRST_CALLS + rate * elapsed_s
    fake.clear()
    await running.settled()
    await running.check_vectors(lambda text: vector(text, DIMENSIONS))


FAILING = "SELECT count(*) FROM engram.embedding_failure"
ATTEMPTS = "SELECT max(attempts) FROM engram.embedding_failure"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("provider", "fault"), SHORT)
async def test_an_outage_costs_few_calls_no_attempt_and_no_memory(
    servers: Servers, provider: str, fault: str
) -> None:
    async with asking(servers, provider) as (running, fake):
        await outage(running, fake, fault, 150, 4.0)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("provider", ["openai", "voyage"])
async def test_a_minute_of_every_outage(servers: Servers, provider: str) -> None:
    async with asking(servers, provider) as (running, fake):
        for fault in FAULTS:
            await outage(running, fake, fault, 1000, 60.0)
            # Within a second of a provider's proof that it works, only calls tell otherwise.
            await asyncio.sleep(PROOF_S)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_a_provider_that_hangs_for_minutes(servers: Servers) -> None:
    async with asking(servers, "openai", timeout_s=30.0) as (running, fake):
        await outage(running, fake, "hang", 1000, 240.0)
