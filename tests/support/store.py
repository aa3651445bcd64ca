"""A whole store in this process: ingest behind an HTTP client, an embedder if wanted, plain SQL."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from fastapi import FastAPI

from engram.domain.spaces import parse_embedding
from engram.serving.process import Service, background, connected
from engram.serving.web import listen, serve
from engram.settings import Settings
from engram.storage import keys
from engram.storage.connection import about, open_pool
from engram.storage.spaces import create_space
from engram_embedder.service import _Lanes
from engram_ingest.lane import CommandLane
from engram_ingest.service import _commands, open_doors

Sql = asyncpg.Connection
SCOPES = ("memories", "operator")


@dataclass
class Store:
    """A running store.

    Attributes:
        client: sends the key of ``workspace``; an unexpected exception is raised, not answered.
        sql: for checks that trust nothing of ours: the superuser's where its DSN was given.
    """

    client: httpx.AsyncClient
    workspace: UUID
    key: str
    settings: Settings
    service: Service
    app: FastAPI
    lane: CommandLane
    sql: Sql

    async def post(self, content: str, **fields: Any) -> dict[str, Any]:
        """Store one memory and return its record."""
        answer = await self.client.post("/v1/memories", json={"content": content, **fields})
        assert answer.status_code in (200, 201), answer.text
        record: dict[str, Any] = answer.json()
        return record

    async def import_(self, body: Any, **params: Any) -> dict[str, Any]:
        """Import a body and return the report."""
        answer = await self.client.post("/v1/memories/import", json=body, params=params)
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report

    async def count(self, state: str | None = None) -> int:
        """Count this workspace's memories by plain SQL."""
        return int(
            await self.sql.fetchval(
                "SELECT count(*) FROM engram.memory WHERE workspace = $1 "
                "AND ($2::text IS NULL OR state = $2)",
                *(self.workspace, state),
            )
        )

    async def key_of(self, workspace: UUID, scopes: Sequence[str] = SCOPES, **fields: Any) -> str:
        """Make another key of a workspace."""
        async with about(self.service.pool, [workspace]) as connection:
            made, _ = await keys.create_key(
                connection, workspace, "test", scopes, fields.get("expires_at"), "test"
            )
        return made.text

    async def other_workspace(self, name: str = "other") -> tuple[UUID, str]:
        """Make a second workspace and a key of it."""
        async with self.service.pool.acquire() as connection:
            workspace = await keys.ensure_workspace(connection, name, self.service.spaces.active[0])
        return workspace, await self.key_of(workspace)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[tuple[str, int]]:
        """Serve the same application on a real socket."""
        bound = listen("127.0.0.1", 0, "ENGRAM_PORT")
        async with background(serve(self.app, bound, drain_s=1)):
            yield bound.getsockname()


@contextlib.asynccontextmanager
async def open_store(
    database_url: str,
    nats_url: str,
    embedding: str = "hashing@256",
    *,
    superuser_url: str | None = None,
    embedder: bool = False,
    commands: bool = False,
    **settings: Any,
) -> AsyncIterator[Store]:
    """Run ingest (and an embedder) on a migrated database and a NATS server.

    Args:
        database_url: login ``engram``.
        nats_url: of a server with JetStream.
        embedding: space of a store that has none yet.
        superuser_url: for ``sql``; without it ``sql`` acts as engram_worker.
        embedder: run the embedder too, in the same process.
        commands: take commands by NATS, too.
        settings: further fields of `Settings`.
    """
    chosen = Settings(database_url=database_url, nats_url=nats_url, embedding=embedding, **settings)
    workspace, key = await _prepare(database_url, chosen)
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(connected("test", chosen))
        await stack.enter_async_context(background(service.relay.run()))
        app, lane = await stack.enter_async_context(open_doors(service))
        if commands:
            await stack.enter_async_context(_commands(chosen, lane))
        if embedder:
            await stack.enter_async_context(embedding_lanes(service))
        client = await stack.enter_async_context(client_of(app, key))
        sql = await _connect(superuser_url, database_url)
        stack.push_async_callback(sql.close)
        yield Store(client, workspace, key, chosen, service, app, lane, sql)


def client_of(app: FastAPI, key: str) -> httpx.AsyncClient:
    """Return a client that calls the application in this process with a key."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://store",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )


@contextlib.asynccontextmanager
async def embedding_lanes(service: Service) -> AsyncIterator[None]:
    """Run the embedder's lanes on a service."""
    lanes = _Lanes(service)
    await lanes.adjust()
    try:
        async with background(lanes.run()):
            yield
    finally:
        await lanes.close()


async def _connect(superuser_url: str | None, database_url: str) -> Sql:
    if superuser_url is not None:
        return await asyncpg.connect(superuser_url)
    return await asyncpg.connect(database_url, server_settings={"role": "engram_worker"})


async def _prepare(database_url: str, settings: Settings) -> tuple[UUID, str]:
    """Make space, workspace and key, without asking a provider as bootstrap would."""
    login = await asyncpg.connect(database_url)
    try:
        spec = parse_embedding(settings.embedding or "hashing@256")
        space = await create_space(login, spec, deterministic=True)
    finally:
        await login.close()
    async with await open_pool(database_url, "engram_worker", size=1, name="prepare") as pool:
        async with pool.acquire() as connection:
            workspace = await keys.ensure_workspace(connection, "default", space.id)
        async with about(pool, [workspace]) as connection:
            key, _ = await keys.create_key(connection, workspace, "first", SCOPES, None, "test")
    return workspace, key.text
