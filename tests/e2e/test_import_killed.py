"""Ingest is killed in the middle of an import: it goes on, nothing is lost, nothing is doubled."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

# (kills, items): the short form runs in `make test`, the full count in `make test-chaos`.
SHORT, FULL = (1, 15_000), (4, 100_000)
COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
# Of each hundred items: two that are empty, one that repeats a text under another name.
EMPTY, REPEATED = (40, 41), 70


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """Ingest as a process on servers of this test's own."""
    async with cluster(postgres_server, nats_server, tmp_path, ("ingest",)) as everything:
        yield everything


def item(number: int) -> dict[str, Any]:
    content = f"fact number {number}"
    if number % 100 in EMPTY:
        content = ""
    if number % 100 == REPEATED:
        content = f"fact number {number - 1}"
    return {"content": content, "external_id": f"x{number}", "namespace": f"n{number % 7}"}


def body_of(count: int) -> bytes:
    items = (item(n) | {"namespace": f"n{n // 100 % 7}"} for n in range(count))
    return b"".join(json.dumps(one).encode() + b"\n" for one in items)


async def job_at(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    """Ask until the restarted process answers; whatever it says adds up."""

    async def ask() -> dict[str, Any] | None:
        try:
            answer = await client.get(location)
        except httpx.TransportError:
            return None
        if answer.status_code != 200:
            return None
        job: dict[str, Any] = answer.json()
        return job

    job = await eventually(ask, 60, 0.05)
    assert job["received"] == sum(job[name] for name in COUNTS)
    return job


async def killed_and_resumed(running: Cluster, kills: int, count: int) -> None:
    answer = await running.client.post("/v1/memories/import", content=body_of(count), timeout=120)
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    for kill in range(kills):
        want = count * (kill + 1) // (kills + 1)

        async def far_enough(want: int = want) -> bool:
            return (await job_at(running.client, location))["received"] >= want

        await eventually(far_enough, 120, 0.02)
        await running.restart("ingest")

    async def ended() -> dict[str, Any] | None:
        job = await job_at(running.client, location)
        return None if job["state"] in ("queued", "running") else job

    job = await eventually(ended, 300, 0.1)
    hundreds = count // 100
    assert (job["state"], job["received"]) == ("done", count), job
    assert (job["failed"], job["duplicates"]) == (2 * hundreds, hundreds)
    assert job["imported"] == 97 * hundreds
    await check_ledger(running, count)


async def check_ledger(running: Cluster, count: int) -> None:
    """Hold every single name against plain SQL, and the errors against the empty items."""
    connection = await asyncpg.connect(running.postgres.superuser_dsn("engram"))
    try:
        rows = await connection.fetch("SELECT external_id, content, state FROM engram.memory")
        errors = await connection.fetch("SELECT index FROM engram.import_error ORDER BY index")
        claims = await connection.fetchval("SELECT position FROM engram.import_job")
    finally:
        await connection.close()
    expected = {
        one["external_id"]: (one["content"], "merged" if n % 100 == REPEATED else "active")
        for n in range(count)
        if (one := item(n))["content"]
    }
    assert len(rows) == len(expected), "an item was stored twice or not at all"
    assert {r["external_id"]: (r["content"], r["state"]) for r in rows} == expected
    assert [r["index"] for r in errors] == [n for n in range(count) if n % 100 in EMPTY]
    assert claims == count


@pytest.mark.timeout(300)
async def test_an_import_survives_its_process_and_adds_up_to_the_item(running: Cluster) -> None:
    await killed_and_resumed(running, *SHORT)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
async def test_an_import_of_100_000_survives_kill_after_kill(running: Cluster) -> None:
    await killed_and_resumed(running, *FULL)
