"""A store in mid-migration, in this process: two spaces that are both written, and its record."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import numpy as np

from engram.broker.topology import reconcile
from engram.domain.spaces import parse_embedding
from engram.embedding.hashing import hash_text
from engram.serving.process import Service
from engram.storage import migrating
from engram.storage.migrating import Migration, Name, NewMigration
from engram.storage.spaces import create_space
from tests.support.migrating_check import Checker, Vector
from tests.support.store import Store, embedding_lanes, open_store
from tests.support.wait import eventually

OLD, NEW = "hashing@64", "hashing@96"


@dataclass
class Moving:
    """A migration of everything from space 1 to space 2, in the phase ``verified``."""

    store: Store
    migration: Migration
    check: Checker
    right: dict[int, Callable[[str], Vector]]

    @property
    def service(self) -> Service:
        """The process's service: its pool is the worker's."""
        return self.store.service

    @property
    def keys(self) -> dict[str, Callable[[str], Vector]]:
        """Vectors of texts, by the public name of each space."""
        return {self.service.spaces.key(space): of for space, of in self.right.items()}

    async def reread(self) -> Migration:
        """Return the record as it is now, and keep it."""
        async with self.service.pool.acquire() as connection:
            self.migration = await migrating.read(connection, self.migration.id)
        return self.migration

    async def reads(self, *names: str) -> list[int]:
        """Return the space that each namespace of the workspace reads."""
        rows = await self.store.sql.fetch(
            "SELECT n.name, coalesce(n.read_space, w.read_space) AS space FROM engram.namespace n "
            "JOIN engram.workspace w ON w.id = n.workspace WHERE w.id = $1",
            self.store.workspace,
        )
        found = {row["name"]: row["space"] for row in rows}
        return [found[name] for name in names]

    async def default(self) -> int:
        """Return the space that the workspace reads by default."""
        sql = "SELECT read_space FROM engram.workspace WHERE id = $1"
        return int(await self.store.sql.fetchval(sql, self.store.workspace))

    def name(self, namespace: str) -> Name:
        """Return a namespace of the workspace as pairs name it."""
        return (self.store.workspace, namespace)

    async def settled(self, *spaces: int) -> None:
        """Wait until every live memory has its vector in these spaces, or in both."""

        async def done() -> bool:
            await self.check.each_has_one(*(spaces or (1, 2)))
            return True

        await eventually(done, 60, 0.05)

    async def search(self, query: str, namespace: str | None = None, **more: Any) -> dict[str, Any]:
        """Search and return the answer."""
        body = {"query": query, "namespace": namespace, "limit": 50, **more}
        answer = await self.store.client.post(
            "/v1/memories/search", json={k: v for k, v in body.items() if v is not None}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextlib.asynccontextmanager
async def moving(
    database_url: str, nats_url: str, superuser_url: str, *, embedder: bool = True
) -> AsyncIterator[Moving]:
    """Open a store with two spaces, both written by the embedder if there is one."""
    async with open_store(database_url, nats_url, OLD, superuser_url=superuser_url) as store:
        await second_space(database_url)
        await store.service.spaces.refresh()
        await reconcile(store.service.jetstream, store.service.spaces.active)
        made = Moving(store, await _record(store), Checker(store.sql), {})
        made.right = {space: _vectors(space) for space in (1, 2)}
        async with contextlib.AsyncExitStack() as stack:
            if embedder:
                await stack.enter_async_context(embedding_lanes(store.service))
            yield made


async def second_space(database_url: str) -> None:
    """Make the space that is moved to."""
    login = await asyncpg.connect(database_url)
    try:
        await create_space(login, parse_embedding(NEW), deterministic=True)
    finally:
        await login.close()


async def _record(store: Store) -> Migration:
    new = NewMigration(
        1, 2, store.service.spaces.key(1), store.service.spaces.key(2), None, store.workspace,
        "test", {}, {},
    )  # fmt: skip
    async with store.service.pool.acquire() as connection:
        made = await migrating.create(connection, new)
        await connection.execute(
            "UPDATE engram.migration SET phase = 'verified', target_made = true WHERE id = $1", made
        )
        return await migrating.read(connection, made)


def _vectors(space: int) -> Callable[[str], Vector]:
    def of_text(text: str) -> Vector:
        vector = hash_text(text, {1: 64, 2: 96}[space])
        return vector / np.linalg.norm(vector)

    return of_text


class KilledError(BaseException):
    """The process was killed here: nothing of it runs any more."""


class _DyingPool:
    """A pool that is killed with its process at its n-th use, and stays dead."""

    def __init__(self, pool: Any, uses: int) -> None:
        self._pool, self.left = pool, uses

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        if self.left <= 0:
            raise KilledError
        self.left -= 1
        async with self._pool.acquire() as connection:
            yield connection


def dying(service: Service, uses: int) -> Service:
    """Return a service that is killed once its pool was used so many times."""
    return replace(service, pool=_DyingPool(service.pool, uses))  # type: ignore[arg-type]  # it does what is used of one
