"""Scorecard R10 and R11: whatever a provider answers, each text gets its own vector or a letter."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

DIMENSIONS = 16
BAD_ANSWERS = [
    "html", "truncated", "cut", "short_batch", "long_batch", "shuffled", "duplicate_index",
    "string_index", "missing_index", "wrong_dimension", "nan", "zero", "overflow", "text_row",
    "all_nan", "not_json", "no_data", "huge", "reset",
]  # fmt: skip
CURSES: dict[str, dict[str, Any]] = {
    "rejected": {"kind": "status", "status": 400},
    "contract": {"kind": "zero"},
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(DIMENSIONS) as server:
        yield server


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path, fake: FakeProvider
) -> AsyncIterator[Cluster]:
    settings = {
        "ENGRAM_EMBEDDING": f"openai:local-model@{DIMENSIONS}",
        "ENGRAM_OPENAI_BASE_URL": fake.url,
    }
    names = ("ingest", "embedder")
    async with cluster(postgres_server, nats_server, tmp_path, names, settings) as everything:
        yield everything


async def due_at_once(running: Cluster) -> None:
    """Spare the test the pauses between tries: they are the rule's, which has its own tests."""
    await running.fetch("UPDATE engram.embedding_failure SET next_attempt = now() WHERE NOT dead")


@pytest.mark.timeout(120)
async def test_one_bad_answer_after_the_other_puts_no_vector_where_it_does_not_belong(
    running: Cluster, fake: FakeProvider
) -> None:
    calls = fake.requests.calls
    for kind in BAD_ANSWERS:
        fake.script(kind, only="memory")
    await running.post_many([f"memory {number} among bad answers" for number in range(200)])

    async def all_answered() -> bool:
        await due_at_once(running)
        return fake.requests.calls - calls > len(BAD_ANSWERS)

    await eventually(all_answered, 90, 0.3)
    await running.settled()
    await running.check_vectors(lambda text: vector(text, DIMENSIONS))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("reason", CURSES)
async def test_a_cursed_text_costs_only_itself_and_can_be_replayed(
    running: Cluster, fake: FakeProvider, reason: str
) -> None:
    fake.script(**CURSES[reason], only="cursed", times=None)
    await running.post_many([f"plain text {number}" for number in range(99)])
    cursed = await running.ledger.post(running.client, "a cursed text")

    async def given_up() -> bool:
        await due_at_once(running)
        rows = await running.fetch("SELECT * FROM engram.embedding_failure WHERE dead")
        return [(row["memory_id"], row["class"]) for row in rows] == [(cursed, reason)]

    await eventually(given_up, 60, 0.2)
    assert await running.fetchval("SELECT count(*) FROM engram_vec.space_1") == 99
    assert await running.fetchval("SELECT count(*) FROM engram.embedding_failure") == 1
    fake.clear()
    answer = await running.client.post("/v1/dead-letters/replay", json={"class": reason})
    assert answer.json()["replayed"] == 1
    await running.settled()
    await running.check_vectors(lambda text: vector(text, DIMENSIONS))
