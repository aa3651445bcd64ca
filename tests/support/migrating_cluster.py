"""A migration of a whole cluster towards a fake provider that counts each text it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import numpy as np

from engram.embedding.hashing import hash_text
from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.migrating_check import Checker, Vector
from tests.support.wait import eventually

SERVICES = ("ingest", "embedder", "curator", "migrator")
OLD, NEW = "hashing:ngram-1@64", "openai:fake@48"
_DIMENSIONS = 48
_USERS = 20

Shown = dict[str, Any]


class CountingFake(FakeProvider):
    """Counts how often each text was sent to be embedded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(_DIMENSIONS, **options)
        self.sent: Counter[str] = Counter()

    async def _embeddings(self, path: str, headers: dict[str, str], request: Shown) -> Any:
        self.sent.update(request["input"])
        return await super()._embeddings(path, headers, request)


@dataclass
class Moved:
    """A cluster, its fake provider, and the migration towards it."""

    cluster: Cluster
    fake: CountingFake
    sql: Callable[[], Awaitable[asyncpg.Connection]]
    id: str = ""
    texts: set[str] = field(default_factory=set)

    async def store(self, count: int) -> None:
        """Import memories over some namespaces and note them in the ledger."""
        items = [
            {"content": f"Memory {number} likes tea.", "user_id": f"u{number % _USERS:02}"}
            for number in range(count)
        ]
        for start in range(0, count, 400):
            body = items[start : start + 400]
            answer = await self.cluster.client.post("/v1/memories/import", json=body, timeout=60)
            assert answer.status_code == 200, answer.text
        rows = await self.cluster.fetch("SELECT id, content FROM engram.memory")
        self.cluster.ledger.accepted.update((row["id"], row["content"]) for row in rows)
        self.texts.update(row["content"] for row in rows)
        await self.settled(1)

    async def plan(self) -> None:
        """Plan a migration of everything."""
        answer = await self._insist("POST", "/v1/migrations", {"to": NEW, "measure": False})
        self.id = answer["id"]

    async def ask(self, verb: str) -> None:
        """Ask for a verb; the answer comes before it is done."""
        await self._insist("POST", f"/v1/migrations/{self.id}/{verb}", {})

    async def shown(self) -> Shown:
        """Return the migration as it is now."""
        return await self._insist("GET", f"/v1/migrations/{self.id}", None)

    async def granted(self, timeout_s: float = 60) -> Shown:
        """Wait until the migrator has done what was asked for last."""

        async def done() -> Shown | None:
            found = await self.shown()
            assert found["error"] is None, found["error"]
            return found if found["wish"] is None else None

        found: Shown = await eventually(done, timeout_s, 0.05)
        return found

    async def filled(self, timeout_s: float = 120) -> Shown:
        """Wait until the backfill of every namespace is complete."""

        async def complete() -> Shown | None:
            found = await self.shown()
            states = found["namespaces"]
            waits = states.get("waiting", 0) + states.get("backfilling", 0)
            return found if states and not waits and found["phase"] != "dual_write" else None

        found: Shown = await eventually(complete, timeout_s, 0.1)
        return found

    async def settled(self, *spaces: int, timeout_s: float = 90) -> None:
        """Wait until every live memory has its vector in these spaces."""
        sql = await self.sql()
        try:

            async def done() -> bool:
                await Checker(sql).each_has_one(*spaces)
                return True

            await eventually(done, timeout_s, 0.1)
        finally:
            await sql.close()

    async def check(self, *spaces: int) -> None:
        """Come to rest, then hold the store against every promise."""
        await self.settled(*spaces)
        sql = await self.sql()
        try:
            ledger = self.cluster.ledger
            right = {space: _RIGHT[space] for space in spaces}
            await Checker(sql).all(spaces, ledger.accepted, ledger.deleted, right)
        finally:
            await sql.close()

    def sent_again(self) -> float:
        """Return how often the texts of memories were sent, for each text that was."""
        counts = [count for text, count in self.fake.sent.items() if text in self.texts]
        return sum(counts) / len(counts)

    @contextlib.asynccontextmanager
    async def written_to(self, seed: int = 1) -> AsyncIterator[None]:
        """Create, change and delete memories all the time while inside."""
        stop = asyncio.Event()
        writing = asyncio.create_task(self._write_on(random.Random(seed), stop))
        try:
            yield
        finally:
            stop.set()
            await writing

    async def _write_on(self, chance: random.Random, stop: asyncio.Event) -> None:
        ledger, client = self.cluster.ledger, self.cluster.client
        while not stop.is_set():
            text = f"Somebody likes coffee, {uuid4()}."
            self.texts.add(text)
            kind = chance.choice(("create", "create", "change", "delete"))
            some: UUID = chance.choice(list(ledger.accepted))
            if kind == "create":
                await ledger.post(client, text)
            elif kind == "change":
                await ledger.change(client, some, text)
            else:
                await ledger.delete(client, some)
            await asyncio.sleep(0.01)

    async def _insist(self, verb: str, path: str, body: Any) -> Shown:
        """Send a request until something answers it that is alive."""

        async def answered() -> Shown | None:
            try:
                answer = await self.cluster.client.request(verb, path, json=body)
            except httpx.TransportError:
                return None
            if answer.status_code in (429, 503):
                return None
            assert answer.status_code < 300, answer.text
            found: Shown = answer.json()
            return found

        found: Shown = await eventually(answered, 30, 0.1)
        return found


def _hashed(text: str) -> Vector:
    made = hash_text(text, 64)
    return made / np.linalg.norm(made)


_RIGHT: dict[int, Callable[[str], Vector]] = {
    1: _hashed,
    2: lambda text: vector(text, _DIMENSIONS),
}


@contextlib.asynccontextmanager
async def moved_cluster(
    postgres: PostgresServer, nats: NatsServer, logs: Path, **settings: str
) -> AsyncIterator[Moved]:
    """Run every service a migration needs, and the fake provider it moves to."""

    async def superuser() -> asyncpg.Connection:
        return await asyncpg.connect(postgres.superuser_dsn("engram"))

    async with CountingFake(latency_s=0.02) as fake:
        chosen = {"ENGRAM_OPENAI_BASE_URL": fake.url, **settings}
        async with cluster(postgres, nats, logs, SERVICES, chosen) as running:
            yield Moved(running, fake, superuser)
