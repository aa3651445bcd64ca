"""Scorecard R6: an embedder is frozen past ack_wait: what it brings when it wakes is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import nats
import pytest

from engram.broker import topology
from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

DIMENSIONS = 16
MEMORIES = 40
ROUNDS = 5
LATE = "engram_late_vectors_total"


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(DIMENSIONS) as server:
        yield server


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path, fake: FakeProvider
) -> AsyncIterator[Cluster]:
    """The HTTP door and two embedders as processes, one of them at rest."""
    settings = {
        "ENGRAM_EMBEDDING": f"openai:local-model@{DIMENSIONS}",
        "ENGRAM_OPENAI_BASE_URL": fake.url,
    }
    names = ("ingest", "embedder", "embedder-2")
    async with cluster(postgres_server, nats_server, tmp_path, names, settings) as everything:
        await everything.terminate("embedder-2")
        yield everything


async def shorten_ack_wait(running: Cluster, seconds: float) -> None:
    """Let the broker give bells to another embedder after so many seconds instead of 15."""
    connection = await nats.connect(running.nats.nats_url)
    stream = str(topology.MEMORY.name)
    jetstream = connection.jetstream()
    for info in await jetstream.consumers_info(stream):
        info.config.ack_wait = seconds
        await jetstream.add_consumer(stream, info.config)
    await connection.close()


async def without_vector(running: Cluster) -> list[UUID]:
    rows = await running.fetch(
        "SELECT m.id FROM engram.memory m LEFT JOIN engram_vec.space_1 v ON v.memory_id = m.id "
        "WHERE m.state = 'active' AND v.memory_id IS NULL ORDER BY m.id"
    )
    return [row["id"] for row in rows]


async def change_some(running: Cluster, ids: list[UUID], what: str) -> None:
    """Of these memories, give every second one another text and erase every fifth."""
    for place, memory_id in enumerate(ids):
        if place % 5 == 4:
            await running.ledger.delete(running.client, memory_id)
        elif place % 2 == 0:
            text = f"{running.ledger.accepted[memory_id]}, changed {what}"
            await running.ledger.change(running.client, memory_id, text)


@contextlib.asynccontextmanager
async def other_takes_over(running: Cluster, ack_wait_s: float) -> AsyncIterator[None]:
    """Start the second embedder; on leaving it rests again."""
    await running.start("embedder-2")
    await shorten_ack_wait(running, ack_wait_s)
    yield
    await running.terminate("embedder-2")


async def frozen_in_a_call(
    running: Cluster, fake: FakeProvider, ack_wait_s: float, what: str
) -> None:
    """Freeze an embedder while the provider answers it; it reads the answer when it wakes up."""
    late = await running.metric("embedder", LATE)
    fake.latency_s = 0.5
    await running.post_many([f"memory {number} {what}" for number in range(MEMORIES)])
    await eventually(lambda: fake.requests.open_now)
    with running.frozen("embedder"):
        waiting = await without_vector(running)
        await eventually(lambda: not fake.requests.open_now)
        fake.latency_s = 0.0
        async with other_takes_over(running, ack_wait_s):
            assert len(waiting) >= 5
            await change_some(running, waiting, what)
            await running.settled()
            done = await running.fetch("SELECT * FROM engram_vec.space_1 ORDER BY memory_id")
    # Awake again: it has the answers in hand, and every one of them comes too late.
    await eventually(lambda: _more(running, late), 20)
    await running.settled()
    assert await running.fetch("SELECT * FROM engram_vec.space_1 ORDER BY memory_id") == done
    await running.check_vectors(lambda text: vector(text, DIMENSIONS))


async def _more(running: Cluster, than: float) -> bool:
    return await running.metric("embedder", LATE) > than


async def frozen_in_its_write(
    running: Cluster, fake: FakeProvider, ack_wait_s: float, what: str
) -> None:
    """Freeze an embedder whose transaction has written vectors and is not committed."""
    fake.latency_s = 1.0
    await running.post_many([f"memory {number} {what}" for number in range(MEMORIES)])
    await eventually(lambda: fake.requests.open_now)
    async with rival_vectors(running):
        await eventually(lambda: _blocked(running))
        running.freeze("embedder")
    try:
        fake.latency_s = 0.0
        waiting = await without_vector(running)
        assert len(waiting) >= 5
        await eventually(lambda: _holds_its_locks(running))
        async with other_takes_over(running, ack_wait_s):
            # An edit must not wait for ever for a writer that sleeps with its locks held.
            await asyncio.wait_for(change_some(running, waiting, what), 30)
            await running.settled()
    finally:
        running.thaw("embedder")
    await running.ledger.post(running.client, f"written after the one {what} woke up")
    await running.settled()
    await running.check_vectors(lambda text: vector(text, DIMENSIONS))


@contextlib.asynccontextmanager
async def rival_vectors(running: Cluster) -> AsyncIterator[None]:
    """Hold vectors of every memory that has none, uncommitted: whoever writes one waits for us."""
    rival = await asyncpg.connect(running.postgres.superuser_dsn("engram"))
    held = rival.transaction()
    await held.start()
    await rival.execute(
        "INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding) "
        "SELECT m.workspace, m.namespace, m.id, m.version, "
        "array_fill(0.25::real, ARRAY[16])::halfvec(16) FROM engram.memory m "
        "LEFT JOIN engram_vec.space_1 v ON v.memory_id = m.id WHERE v.memory_id IS NULL"
    )
    try:
        yield
    finally:
        await held.rollback()
        await rival.close()


async def _holds_its_locks(running: Cluster) -> bool:
    """The embedder's transaction has done its statement and waits for the sleeper's next one."""
    return bool(
        await running.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'engram embedder' "
            "AND state = 'idle in transaction' AND backend_xid IS NOT NULL"
        )
    )


async def _blocked(running: Cluster) -> bool:
    return bool(
        await running.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'engram embedder' "
            "AND wait_event_type = 'Lock'"
        )
    )


@pytest.mark.timeout(120)
async def test_an_embedder_frozen_during_a_call_writes_nothing_when_it_wakes_up(
    running: Cluster, fake: FakeProvider
) -> None:
    await frozen_in_a_call(running, fake, 2.0, "asleep in a call")


@pytest.mark.timeout(120)
async def test_an_embedder_frozen_in_its_write_holds_nobody_up_for_long(
    running: Cluster, fake: FakeProvider
) -> None:
    await frozen_in_its_write(running, fake, 2.0, "asleep in a write")


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_embedders_frozen_again_and_again_past_the_real_ack_wait(
    running: Cluster, fake: FakeProvider
) -> None:
    for number in range(ROUNDS):
        await frozen_in_a_call(running, fake, topology.ACK_WAIT_S, f"in call {number}")
        await frozen_in_its_write(running, fake, topology.ACK_WAIT_S, f"in write {number}")
