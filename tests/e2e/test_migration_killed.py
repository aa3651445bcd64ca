"""R15, R18 and R19: processes are killed, and a provider is down, while everything moves."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.migrating_cluster import NEW, OLD, Moved, moved_cluster
from tests.support.wait import eventually

# (kills, memories): the short form runs in `make test`, the full counts in `make test-chaos`.
SHORT, FULL = (2, 1_500), (20, 20_000)
# Tokens a minute, so that the backfill lasts as long as the killing: about nine a text.
SLOW = {"ENGRAM_PROVIDER_RPM": "6000", "ENGRAM_PROVIDER_TPM": "600000"}

# Where in a migration somebody is killed, and what is asked for there; None asks for nothing.
CRASH_POINTS: dict[str, str | None] = {
    "dual-write begins": "start",
    "the backfill runs": None,
    "namespaces are verified": "verify",
    "pointers move": "cutover",
    "pointers move back": "rollback",
    "pointers move again": "cutover",
    "the old space is dropped": "release",
}
PROCESSES = ("ingest", "embedder", "curator", "migrator", "nats", "postgres")


@pytest.fixture
async def moved(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Moved]:
    async with moved_cluster(postgres_server, nats_server, tmp_path, **SLOW) as everything:
        yield everything


async def kill(moved: Moved, process: str) -> None:
    """Kill -9 one process and start it again."""
    if process in ("nats", "postgres"):
        server = moved.cluster.nats if process == "nats" else moved.cluster.postgres
        server.kill9()
        await server.wait()
        await server.restart()
    else:
        await moved.cluster.restart(process)


async def vectors(moved: Moved) -> int:
    return int(await moved.cluster.fetchval("SELECT count(*) FROM engram_vec.space_2"))


async def killed_migrator(moved: Moved, kills: int, memories: int) -> None:
    """Move everything while the migrator dies again and again."""
    await moved.store(memories)
    await moved.plan()
    await moved.ask("start")
    async with moved.written_to():
        for number in range(kills):

            async def at_work(wanted: int = number) -> bool:
                found = await moved.shown()
                return bool(found["held"]) and (not wanted or found["phase"] == "backfill")

            await eventually(at_work, 60, 0.02)
            await moved.cluster.restart("migrator")
        await moved.filled(600)
    assert (await moved.shown())["phase"] == "backfill"
    await moved.check(1, 2)
    assert moved.sent_again() <= 1.02
    assert moved.texts <= set(moved.fake.sent) | moved.texts


@pytest.mark.timeout(180)
async def test_a_killed_migration_goes_on_and_embeds_nothing_twice(moved: Moved) -> None:
    await killed_migrator(moved, *SHORT)


async def killed_at(moved: Moved, point: str, process: str, chance: random.Random) -> None:
    """Begin a step, kill a process while it is done, and see it through."""
    verb = CRASH_POINTS[point]
    async with moved.written_to(chance.randrange(1 << 30)):
        if verb is not None:
            await moved.ask(verb)
            await _into(moved, verb, chance)
        await kill(moved, process)
        await (moved.granted() if verb is not None else moved.filled())
    spaces = (2,) if point == "the old space is dropped" else (1, 2)
    if point != "dual-write begins":
        await moved.check(*spaces)


async def _into(moved: Moved, verb: str, chance: random.Random) -> None:
    """Wait a moment of the step's own length, so that the kill falls anywhere in it."""
    until = time.monotonic() + chance.random() * {"verify": 0.5}.get(verb, 0.2)

    async def there() -> bool:
        return time.monotonic() >= until or (await moved.shown())["wish"] is None

    await eventually(there, 10, 0.01)


async def killed_everywhere(
    moved: Moved, memories: int, victim: Callable[[str], str], seed: int
) -> None:
    chance = random.Random(seed)
    await moved.store(memories)
    await moved.plan()
    for point in CRASH_POINTS:
        if point == "namespaces are verified":
            await moved.filled()
        await killed_at(moved, point, victim(point), chance)
    assert (await moved.shown())["phase"] == "released"
    spaces = [row["key"] for row in await moved.cluster.fetch("SELECT key FROM engram.space")]
    assert spaces == [NEW]


@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_a_crash_in_every_step_of_a_migration_costs_time_and_nothing_else(
    moved: Moved,
) -> None:
    # The embedder, and each of the others once where it has most to lose.
    chosen = {
        "namespaces are verified": "postgres",
        "pointers move": "migrator",
        "pointers move back": "ingest",
        "pointers move again": "nats",
    }
    await killed_everywhere(moved, 600, lambda point: chosen.get(point, "embedder"), seed=7)


async def outage(moved: Moved, memories: int, long: Callable[[], Awaitable[bool]]) -> None:
    """Let the new space's provider fail while everything is written and read as before."""
    await moved.store(memories)
    await moved.plan()
    await moved.ask("start")
    await moved.granted()
    moved.fake.script("status", status=503, times=None)
    ledger, client = moved.cluster.ledger, moved.cluster.client
    number = 0

    async def unharmed() -> bool:
        nonlocal number
        number += 1
        text = f"During the outage, number {number}."
        moved.texts.add(text)
        memory = await ledger.post(client, text)

        async def found() -> bool:
            body = {"query": text, "limit": 1}
            answer = (await client.post("/v1/memories/search", json=body)).json()
            assert (answer["space"], answer["degraded"]) == (OLD, False)
            return [hit["memory"]["id"] for hit in answer["results"]] == [str(memory)]

        await eventually(found, 5, 0.05)
        return await long()

    await eventually(unharmed, 120, 0.05)
    assert await vectors(moved) < len(ledger.accepted)
    await moved.settled(1)
    moved.fake.clear()
    await moved.filled(180)
    await moved.check(1, 2)
    assert not await moved.cluster.fetchval(
        "SELECT count(*) FROM engram.embedding_failure WHERE space = 2 AND (dead OR attempts > 0)"
    )


# Its short form is in test_migrate.py.
@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_an_outage_of_the_new_provider_leaves_the_old_path_unharmed(moved: Moved) -> None:
    until = time.monotonic() + 8

    async def long() -> bool:
        return time.monotonic() > until and moved.fake.requests.by_status.get(503, 0) > 0

    await outage(moved, 300, long)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
async def test_the_migrator_killed_as_often_as_the_scorecard_says(moved: Moved) -> None:
    await killed_migrator(moved, *FULL)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("process", PROCESSES)
async def test_each_process_killed_in_every_step(moved: Moved, process: str) -> None:
    await killed_everywhere(moved, 2_000, lambda _: process, seed=len(process))


@pytest.mark.chaos
@pytest.mark.timeout(3000)
async def test_a_long_outage_of_the_new_provider(moved: Moved) -> None:
    until = time.monotonic() + 90

    async def long() -> bool:
        return time.monotonic() > until

    await outage(moved, 5_000, long)
