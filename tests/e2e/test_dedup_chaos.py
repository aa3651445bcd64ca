"""R15: memories are erased and edited while dedup runs and the curator is killed.

The ledger holds what the client was told; the checks are plain SQL, sharing no code with the sweep.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

FORMS = ("{}", "the user mentioned that {}", "{}!", "Note: {}")
# (namespaces, changes, kills): the short form runs in `make test`.
SHORT, FULL = (12, 60, 1), (80, 2_000, 20)


@dataclass
class Told:
    """What the client was told: the text that was accepted last, and what is gone."""

    texts: dict[str, str] = field(default_factory=dict)
    fact_of: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    edited: set[str] = field(default_factory=set)


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    names = ("ingest", "embedder", "curator")
    async with cluster(postgres_server, nats_server, tmp_path, names) as everything:
        yield everything


async def _stored(running: Cluster, namespaces: int) -> Told:
    told = Told()
    for n in range(namespaces):
        for door in range(4):
            fact = f"Door {n * 7 + door} is locked."
            for form in FORMS:
                body = {"content": form.format(fact), "namespace": f"user:{n:03}"}
                answer = await running.client.post("/v1/memories", json=body)
                assert answer.status_code in (200, 201), answer.text
                memory = answer.json()["id"]
                told.texts[memory], told.fact_of[memory] = body["content"], fact
    wanted = len(told.texts)

    async def embedded() -> bool:
        return bool(await running.fetchval("SELECT count(*) FROM engram_vec.space_1") == wanted)

    await eventually(embedded, 120, 0.2)
    return told


async def _change(running: Cluster, told: Told, chance: random.Random) -> None:
    memory = chance.choice(sorted(told.texts.keys() - told.deleted))
    if chance.random() < 0.5:
        answer = await running.client.delete(f"/v1/memories/{memory}")
        if answer.status_code == 204:
            told.deleted.add(memory)
        else:
            # It went with the survivor that had absorbed it.
            assert answer.status_code in (404, 410), answer.text
        return
    text = f"Window {chance.randrange(10**9)} is open."
    answer = await running.client.patch(f"/v1/memories/{memory}", json={"content": text})
    if answer.status_code == 200:
        told.texts[memory] = text
        told.edited.add(memory)
    else:
        assert answer.status_code in (404, 409, 410), answer.text


async def _changes(running: Cluster, told: Told, count: int, chance: random.Random) -> None:
    for _ in range(count):
        await _change(running, told, chance)


async def _runs(running: Cluster, until: "asyncio.Task[Any]") -> None:
    """Begin one run after another while there are changes."""
    while not until.done():
        await running.client.post("/v1/dedup/runs", json={"max_share": 1})
        await asyncio.sleep(0.05)


async def _kills(running: Cluster, kills: int, until: "asyncio.Task[Any]") -> None:
    for _ in range(kills):
        if until.done():
            return
        await running.restart("curator")


async def _settled(running: Cluster) -> None:
    async def idle() -> bool:
        await running.client.post("/v1/dedup/runs", json={"max_share": 1})
        return not await running.fetchval(
            "SELECT count(*) FROM engram.dedup_run WHERE state = 'running'"
        )

    await eventually(idle, 120, 0.5)


async def _check(running: Cluster, told: Told) -> None:
    """Nothing revived, nothing stale, nothing lost."""
    rows = await running.fetch(
        "SELECT id::text, state, content, merged_into::text FROM engram.memory"
    )
    found = {row["id"]: row for row in rows}
    assert found.keys() == told.texts.keys()
    for memory in told.deleted:
        assert (found[memory]["state"], found[memory]["content"]) == ("deleted", "")
    for memory, row in found.items():
        if row["state"] == "deleted":
            continue
        assert row["content"] == told.texts[memory]
        if row["state"] == "merged":
            # Absorbed by an active memory of the same fact; what was edited stands by itself.
            survivor = found[row["merged_into"]]
            assert survivor["state"] == "active"
            assert memory not in told.edited
            assert told.fact_of[memory] in survivor["content"] or row["merged_into"] in told.edited
        else:
            assert row["state"] == "active"
    await _no_stale_rows(running)


async def _no_stale_rows(running: Cluster) -> None:
    vectors = await running.fetchval(
        "SELECT count(*) FROM engram_vec.space_1 v JOIN engram.memory m ON m.id = v.memory_id "
        "WHERE m.state <> 'active' OR v.version > m.version"
    )
    members = await running.fetchval(
        "SELECT count(*) FROM engram.merge_member b JOIN engram.memory m ON m.id = b.memory_id "
        "WHERE b.undone_by IS NULL AND m.state = 'merged' AND b.version <> m.version"
    )
    assert (vectors, members) == (0, 0)


async def _chaos(running: Cluster, namespaces: int, changes: int, kills: int) -> None:
    told, chance = await _stored(running, namespaces), random.Random(20261121)
    changing = asyncio.create_task(_changes(running, told, changes, chance))
    await asyncio.gather(changing, _runs(running, changing), _kills(running, kills, changing))
    await _settled(running)
    await _check(running, told)
    assert told.deleted
    assert await running.fetchval("SELECT count(*) FROM engram.memory WHERE state = 'merged'") > 0


# In order and without chance, test_dedup_races.py goes through the same in `make test`.
@pytest.mark.chaos
async def test_changes_beside_dedup_runs_and_kills_revive_and_lose_nothing(
    running: Cluster,
) -> None:
    await _chaos(running, *SHORT)


@pytest.mark.chaos
async def test_two_thousand_changes_beside_dedup_runs_and_twenty_kills(running: Cluster) -> None:
    await _chaos(running, *FULL)
