"""A migration through service processes: both spaces are written, and neither waits for the other.

Memories are created, changed and deleted meanwhile; plain SQL holds both spaces against the ledger.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

DIMENSIONS = 32
NAMES = ("ingest", "embedder", "curator", "migrator")
BEFORE = 400


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    """The provider of the new space."""
    async with FakeProvider(DIMENSIONS) as server:
        yield server


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path, fake: FakeProvider
) -> AsyncIterator[Cluster]:
    """Every service as a process; the old space is local, the new one at the fake provider."""
    settings = {"ENGRAM_OPENAI_BASE_URL": fake.url}
    async with cluster(postgres_server, nats_server, tmp_path, NAMES, settings) as everything:
        yield everything


@contextlib.asynccontextmanager
async def changing(running: Cluster) -> AsyncIterator[None]:
    """Create, change and delete memories while inside."""
    ended = asyncio.Event()
    numbers = itertools.count()

    async def write() -> None:
        client, ledger = running.client, running.ledger
        while not ended.is_set():
            number = next(numbers)
            kept = await ledger.post(client, f"kept {number}")
            await ledger.change(client, kept, f"changed {number}")
            gone = await ledger.post(client, f"gone {number}")
            await ledger.delete(client, gone)

    async with asyncio.TaskGroup() as writers:
        writers.create_task(write())
        yield
        ended.set()


async def migration(running: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = (await running.client.get("/v1/migrations")).json()["items"][0]
    return found


async def started(running: Cluster) -> dict[str, Any]:
    body = {"to": f"openai:local-model@{DIMENSIONS}"}
    plan = (await running.client.post("/v1/migrations", json=body, timeout=60)).json()
    assert plan["plan"]["blockers"] == []
    await running.client.post(f"/v1/migrations/{plan['id']}/start")

    async def is_on() -> dict[str, Any] | None:
        found = await migration(running)
        assert found["error"] is None
        return found if found["phase"] in ("dual_write", "backfill") else None

    found: dict[str, Any] = await eventually(is_on, 30, 0.1)
    return found


async def complete(running: Cluster) -> dict[str, Any]:
    async def all_of_them() -> dict[str, Any] | None:
        found = await migration(running)
        open_ = {"waiting", "backfilling"} & set(found["namespaces"])
        return found if found["namespaces"] and not open_ else None

    found: dict[str, Any] = await eventually(all_of_them, 60, 0.2)
    return found


async def held_against(running: Cluster, space: int) -> None:
    """See that a space has exactly the current vectors of the ledger's memories."""

    async def equal() -> bool:
        rows = await running.fetch(
            f"SELECT v.memory_id AS id, v.version, m.version AS current "
            f"FROM engram_vec.space_{space} v JOIN engram.memory m ON m.id = v.memory_id"
        )
        assert {row["id"] for row in rows} == set(running.ledger.accepted)
        assert all(row["version"] == row["current"] for row in rows)
        return True

    await eventually(equal, 60, 0.2)


@pytest.mark.timeout(180)
async def test_creates_changes_and_deletes_reach_both_spaces_while_one_is_filled(
    running: Cluster, fake: FakeProvider
) -> None:
    await running.post_many([f"from before {n}" for n in range(BEFORE)])
    asked_before = fake.requests.texts
    async with changing(running):
        await started(running)
        found = await complete(running)
    await held_against(running, 1)
    await held_against(running, 2)
    assert found["phase"] == "backfill"
    assert found["progress"]["rows"] >= BEFORE
    assert fake.requests.texts > asked_before
    log = running.log_text("migrator")
    assert "from before" not in log


@pytest.mark.timeout(180)
async def test_an_outage_of_the_new_spaces_provider_leaves_the_old_path_unharmed(
    running: Cluster, fake: FakeProvider
) -> None:
    await running.post_many([f"from before {n}" for n in range(BEFORE)])
    await running.settled()
    await started(running)
    fake.script("status", status=503, times=None)
    async with changing(running):
        # What is written while it is down is found at once, in the space that is read.
        for number in range(5):
            text = f"written in the outage {number}"
            await running.ledger.post(running.client, text)

            async def found(wanted: str = text) -> bool:
                answer = await running.client.post("/v1/memories/search", json={"query": wanted})
                results = answer.json()["results"]
                return bool(results) and results[0]["memory"]["content"] == wanted

            await eventually(found, 5, 0.05)
    await held_against(running, 1)
    fake.clear()
    await complete(running)
    await held_against(running, 2)
