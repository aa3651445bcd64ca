"""R20: pointers go back and forth under create, update, delete and search; nothing is lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from engram.embedding.provider import Embedded, Kind
from engram_migrator import cutover
from tests.support.ledger import Ledger
from tests.support.migrating_check import Reads
from tests.support.moving import Moving, moving
from tests.support.wait import eventually

NAMESPACES = ("user:a", "user:b", "user:c", "user:d")
STANDING = 40


@pytest.fixture
async def world(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Moving]:
    async with moving(database_url, nats_url, superuser_url) as made:
        yield made


@dataclass
class Traffic:
    """Writers and readers of one store, and what they were told."""

    world: Moving
    reads: Reads
    ledger: Ledger = field(default_factory=Ledger)
    standing: dict[str, tuple[str, str]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    made: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self) -> None:
        """Store memories that nobody touches, and see them in both spaces."""
        for number in range(STANDING):
            text = f"standing fact {number} is about {chr(97 + number % 26) * 6} and item{number}"
            namespace = NAMESPACES[number % len(NAMESPACES)]
            record = await self.world.store.post(text, namespace=namespace)
            self.standing[record["id"]] = (text, namespace)
            self.ledger.accepted[UUID(record["id"])] = text
        await self.world.settled()

    async def writing(self, seed: int) -> None:
        """Create, change and delete."""
        chance, client = random.Random(seed), self.world.store.client
        mine: list[UUID] = []
        while not self.stop.is_set():
            self.made += 1
            what = f"passing note {seed}-{self.made} about q{chance.getrandbits(40):010x}"
            act = chance.random()
            if mine and act < 0.3:
                await self.ledger.change(client, chance.choice(mine), what)
            elif mine and act < 0.5:
                await self.ledger.delete(client, mine.pop(chance.randrange(len(mine))))
            else:
                record = await self.create(what, chance.choice(NAMESPACES))
                mine.append(UUID(record["id"]))
            await asyncio.sleep(0.03)

    async def create(self, what: str, namespace: str) -> dict[str, Any]:
        """Store one memory and wait for its vector where its namespace is read."""
        answer = await self.world.store.client.post(
            "/v1/memories", params={"wait": "embedded"},
            json={"content": what, "namespace": namespace},
        )  # fmt: skip
        assert answer.status_code == 201, answer.text
        record = answer.json()
        self.ledger.accepted[UUID(record["id"])] = what
        return record

    async def keeping(self) -> None:
        """Store what nobody touches any more, to be found from the moment it is embedded."""
        while not self.stop.is_set():
            what = f"lasting note about k{self.chance.getrandbits(40):010x}"
            place = self.chance.choice(NAMESPACES)
            record = await self.create(what, place)
            if record["embedded"]:
                self.standing[record["id"]] = (what, place)
            await asyncio.sleep(0.02)

    async def reading(self, seed: int) -> None:
        """Ask for what stands, most often for what was stored last."""
        chance = random.Random(seed)
        while not self.stop.is_set():
            known = list(self.standing)
            # The whole workspace is read in one space, a namespace sometimes in the other one: it
            # gets there first what is written last.
            is_whole = chance.random() < 0.3
            memory = chance.choice(known[:STANDING] if is_whole else known[-3:])
            asked, place = self.standing[memory]
            found = await self.world.search(asked, None if is_whole else place, limit=3)
            self.reads.note(asked, found, [memory])
            await asyncio.sleep(0.01)


def lag_behind(world: Moving, space: int, by_s: float) -> None:
    """Let a space get its vectors later than the other one: there is something to lose."""
    provider = world.service.spaces.provider(space)._provider
    real = provider.embed

    async def slow(texts: Sequence[str], kind: Kind) -> Embedded:
        if kind == "document":
            await asyncio.sleep(by_s)
        return await real(texts, kind)

    provider.embed = slow  # type: ignore[method-assign]  # the test's own delay


@pytest.mark.parametrize(
    "switches",
    [10, pytest.param(200, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])],
)
async def test_switching_back_and_forth_under_load_mixes_and_loses_nothing(
    world: Moving, switches: int
) -> None:
    traffic = Traffic(world, Reads(world.keys))
    await traffic.begin()
    lag_behind(world, 2, 0.6)
    tasks = [asyncio.create_task(traffic.writing(seed)) for seed in range(2)]
    tasks += [asyncio.create_task(traffic.reading(seed)) for seed in range(2)]
    tasks.append(asyncio.create_task(traffic.keeping()))
    chance = random.Random(20)
    for switch in range(switches):
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        if switch % 2:
            await cutover.rollback(world.service, world.migration, patience_s=20)
        else:
            some = chance.sample(NAMESPACES, 2) if chance.random() < 0.5 else None
            names = some and [world.name(one) for one in some]
            await cutover.cut(world.service, world.migration, names, patience_s=30)
        await world.check.pointers_are_sound()
    traffic.stop.set()
    await asyncio.gather(*tasks)
    await eventually(lambda: _at_rest(world, traffic), 60, 0.2)
    assert set(traffic.reads.spaces) == set(world.keys), traffic.reads.spaces
    assert traffic.reads.degraded == 0


async def _at_rest(world: Moving, traffic: Traffic) -> bool:
    ledger = traffic.ledger
    await world.check.all((1, 2), ledger.accepted, ledger.deleted, world.right)
    return True
