"""A cluster for fault tests: private servers, real service processes, and an independent ledger."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx

from engram_cli.bootstrap import bootstrap
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.ports import Ports
from engram_cli.runtime.postgres import PostgresServer
from engram_cli.runtime.service import ServiceProcess, ServiceSpec
from tests.support.wait import eventually

SETTLED_S = 60.0


@dataclass(repr=False)
class Ledger:
    """What the client was told is durable: ids by the content it sent."""

    accepted: dict[UUID, str] = field(default_factory=dict)

    async def post(self, client: httpx.AsyncClient, content: str) -> None:
        """Send one memory until it is accepted, always with the same key, and note its id."""
        headers = {"Idempotency-Key": str(uuid4())}
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post(
                    "/v1/memories", json={"content": content}, headers=headers
                )
                if answer.status_code in (200, 201):
                    self.accepted[UUID(answer.json()["id"])] = content
                    return
                assert answer.status_code in (429, 503), answer.text
            await asyncio.sleep(0.05)  # the pace of a client's own retry


@dataclass(repr=False)
class Cluster:
    """Running servers and services of one test."""

    postgres: PostgresServer
    nats: NatsServer
    services: dict[str, ServiceProcess]
    client: httpx.AsyncClient
    ledger: Ledger = field(default_factory=Ledger)

    async def restart(self, name: str) -> None:
        """Kill -9 a service and start it again."""
        service = self.services[name]
        await self.kill9(name)
        await service.start()

    async def kill9(self, name: str) -> None:
        """Kill a service as a crash would, and see it gone."""
        import os

        service = self.services[name]
        if service.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(service.pid, signal.SIGKILL)
            await service.wait()

    async def post_many(self, contents: Sequence[str], at_once: int = 32) -> None:
        """Send memories side by side, each until it is accepted."""
        gate = asyncio.Semaphore(at_once)

        async def one(content: str) -> None:
            async with gate:
                await self.ledger.post(self.client, content)

        await asyncio.gather(*(one(content) for content in contents))

    async def settled(self) -> None:
        """Wait until every accepted memory has its current vector, then check the promises."""
        await eventually(self._all_embedded, SETTLED_S, 0.1)
        await self.check()

    async def _all_embedded(self) -> bool:
        missing = await self._fetchval(
            "SELECT count(*) FROM unnest($1::uuid[]) AS i (id) LEFT JOIN engram.memory m "
            "USING (id) LEFT JOIN engram_vec.space_1 v ON v.memory_id = i.id "
            "WHERE v.version IS DISTINCT FROM m.version",
            list(self.ledger.accepted),
        )
        assert missing == 0, f"{missing} of {len(self.ledger.accepted)} wait for a vector"
        return True

    async def check(self) -> None:
        """Hold the store against the ledger with plain SQL: I1, I2 and I3."""
        ids = list(self.ledger.accepted)
        stored = await self._fetch("SELECT id, content FROM engram.memory WHERE id = ANY ($1)", ids)
        assert {row["id"]: row["content"] for row in stored} == self.ledger.accepted
        total = await self._fetchval("SELECT count(*) FROM engram.memory")
        assert total == len(ids), "an unanswered request was stored twice"
        doubles = await self._fetchval(
            "SELECT count(*) FROM (SELECT memory_id FROM engram_vec.space_1 "
            "GROUP BY memory_id HAVING count(*) <> 1) AS d"
        )
        assert doubles == 0
        orphans = await self._fetchval(
            "SELECT count(*) FROM engram_vec.space_1 v LEFT JOIN engram.memory m "
            "ON m.id = v.memory_id AND m.version = v.version WHERE m.id IS NULL"
        )
        assert orphans == 0
        failures = await self._fetchval("SELECT count(*) FROM engram.embedding_failure")
        assert failures == 0

    async def lag(self) -> int:
        """Return how many outbox lines and accepted memories without a vector there are."""
        return int(
            await self._fetchval(
                "SELECT (SELECT count(*) FROM engram.outbox) + (SELECT count(*) "
                "FROM engram.memory m LEFT JOIN engram_vec.space_1 v ON v.memory_id = m.id "
                "WHERE v.memory_id IS NULL)"
            )
        )

    async def _fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.postgres.superuser_dsn("engram"))
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def _fetchval(self, sql: str, *arguments: object) -> object:
        return (await self._fetch(sql, *arguments))[0][0]


@contextlib.asynccontextmanager
async def cluster(
    postgres: PostgresServer, nats: NatsServer, logs: Path, names: Sequence[str] = ()
) -> AsyncIterator[Cluster]:
    """Bootstrap a store on two servers and run services against it as processes."""
    ports = Ports()
    port, env = ports.keep(), _env(postgres, nats)
    made = await _bootstrapped(postgres, nats, env)
    services = {
        name: _service(name, (port if name == "ingest" else ports.keep(), ports.keep()), env, logs)
        for name in names or ("ingest", "embedder", "curator")
    }
    headers = {"Authorization": f"Bearer {made}"}
    try:
        for service in services.values():
            await service.start()
        await asyncio.gather(*(service.ready() for service in services.values()))
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
            yield Cluster(postgres, nats, services, client)
    finally:
        await asyncio.gather(*(service.stop() for service in services.values()))
        ports.release()


async def _bootstrapped(postgres: PostgresServer, nats: NatsServer, env: dict[str, str]) -> str:
    import os
    from unittest.mock import patch

    with patch.dict(os.environ, env):
        made = await bootstrap(postgres.database_url, nats.nats_url)
    assert made.api_key
    return made.api_key


def _env(postgres: PostgresServer, nats: NatsServer) -> dict[str, str]:
    return {
        "ENGRAM_DATABASE_URL": postgres.database_url,
        "ENGRAM_NATS_URL": nats.nats_url,
        "ENGRAM_EMBEDDING": "hashing@64",
    }


def _service(name: str, ports: tuple[int, int], env: dict[str, str], logs: Path) -> ServiceProcess:
    port, ops_port = ports
    spec = ServiceSpec(
        name=name,
        argv=(sys.executable, "-m", "engram_cli", "run", name),
        env={**env, "ENGRAM_PORT": str(port), "ENGRAM_OPS_PORT": str(ops_port)},
        ready_url=f"http://127.0.0.1:{ops_port}/readyz",
    )
    return ServiceProcess(spec, logs)
