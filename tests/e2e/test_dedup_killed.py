"""R16: the curator is killed in the middle of a dedup run; it goes on, and undo gives all back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

NAMESPACES, FACTS = 60, 6
FORMS = ("{}", "the user mentioned that {}", "{}!")


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    names = ("ingest", "embedder", "curator")
    async with cluster(postgres_server, nats_server, tmp_path, names) as everything:
        yield everything


async def stored(running: Cluster) -> int:
    items = [
        {"content": form.format(f"Door {n * 7 + f} is locked."), "namespace": f"user:{n:03}"}
        for n in range(NAMESPACES)
        for f in range(FACTS)
        for form in FORMS
    ]
    for begin in range(0, len(items), 400):
        body = items[begin : begin + 400]
        answer = await running.client.post("/v1/memories/import", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
    count = "SELECT count(*) FROM engram_vec.space_1"
    await eventually(lambda: _is(running, count, len(items)), 60, 0.1)
    return len(items)


async def _is(running: Cluster, sql: str, wanted: int) -> bool:
    return bool(await running.fetchval(sql) == wanted)


async def memories(running: Cluster) -> list[Any]:
    rows = await running.fetch("SELECT m::text FROM engram.memory m ORDER BY id")
    return [row[0] for row in rows]


async def test_a_killed_run_goes_on_and_can_be_undone_to_the_byte(running: Cluster) -> None:
    await stored(running)
    before = await memories(running)
    run = (await running.client.post("/v1/dedup/runs", json={"max_share": 1})).json()
    merged = "SELECT count(*) FROM engram.memory WHERE state = 'merged'"

    async def some() -> bool:
        return bool(await running.fetchval(merged) > 0)

    await eventually(some, 60, 0.005)
    await running.kill9("curator")
    assert 0 < await running.fetchval(merged) < NAMESPACES * FACTS * 2
    await running.start("curator")
    path = f"/v1/dedup/runs/{run['id']}"

    async def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = (await running.client.get(path)).json()
        return found if found["state"] != "running" else None

    done = await eventually(ended, 90, 0.1)
    assert done["state"] == "done", done
    assert done["merged"] == await running.fetchval(merged) == NAMESPACES * FACTS * 2
    undone = await running.client.post(f"{path}/undo", timeout=60)
    assert undone.json()["restored"] == done["merged"], undone.text
    assert await memories(running) == before
    count = "SELECT count(*) FROM engram_vec.space_1"
    await eventually(lambda: _is(running, count, len(before)), 60, 0.1)
