"""A cluster for fault tests: private servers, real service processes, and an independent ledger."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from engram_cli.bench.fake_replies import Vector
from engram_cli.bootstrap import bootstrap
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.ports import Ports
from engram_cli.runtime.postgres import PostgresServer
from engram_cli.runtime.service import ServiceProcess, ServiceSpec
from tests.support import servers
from tests.support.ledger import Ledger
from tests.support.wait import eventually

__all__ = ["Cluster", "Ledger", "cluster"]

SETTLED_S = 60.0
GRACE_S = 20.0
# Halves are kept: a stored vector differs from the one that was sent by rounding only.
_ROUNDING = 2e-3


@dataclass(repr=False)
class Cluster:
    """Running servers and services of one test."""

    postgres: PostgresServer
    nats: NatsServer
    services: dict[str, ServiceProcess]
    client: httpx.AsyncClient
    logs: Path
    ledger: Ledger = field(default_factory=Ledger)

    async def restart(self, name: str) -> None:
        """Kill -9 a service, start it again and see it ready: so the next kill hits it at work."""
        await self.kill9(name)
        await self.start(name)

    async def kill9(self, name: str) -> None:
        """Kill a service as a crash would, and see it gone."""
        self._signal(name, signal.SIGKILL)
        await self.services[name].wait()

    async def roll(self, name: str) -> None:
        """Replace a service as a rolling restart does: SIGTERM, see it end, start, see it ready."""
        assert await self.terminate(name) == 0, f"{name} did not end by itself"
        await self.start(name)

    async def terminate(self, name: str) -> int:
        """Tell a service to stop, and return its exit code; it has 20 s like everywhere."""
        self._signal(name, signal.SIGTERM)
        async with asyncio.timeout(GRACE_S):
            return await self.services[name].wait()

    async def start(self, name: str, settings: Mapping[str, str] | None = None) -> None:
        """Start a service that has ended, with other settings if so wished, and see it ready."""
        if settings:
            spec = self.services[name].spec
            changed = replace(spec, env={**spec.env, **settings})
            self.services[name] = ServiceProcess(changed, self.logs, servers.fork_server())
        await self.services[name].start()
        await self.services[name].ready()

    def freeze(self, name: str) -> None:
        """Stop a service in mid-flight (SIGSTOP), as a paused machine would be."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen service go on from where it was."""
        self._signal(name, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Freeze a service while inside."""
        self.freeze(name)
        try:
            yield
        finally:
            self.thaw(name)

    def _signal(self, name: str, how: signal.Signals) -> None:
        pid = self.services[name].pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    async def metric(self, name: str, metric: str, **labels: str) -> float:
        """Return the sum of a metric's samples that a service shows now, 0 without any."""
        url = self.services[name].spec.ready_url.replace("/readyz", "/metrics")
        async with httpx.AsyncClient(timeout=30) as client:
            text = (await client.get(url)).text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return sum(
            one.value
            for one in samples
            if one.name == metric and labels.items() <= one.labels.items()
        )

    def log_text(self, name: str) -> str:
        """Return everything a service has logged."""
        return (self.logs / f"{name}.log").read_text("utf-8", "replace")

    async def post_many(self, contents: Sequence[str], at_once: int = 32) -> None:
        """Send memories side by side, each until it is accepted."""
        gate = asyncio.Semaphore(at_once)

        async def one(content: str) -> None:
            async with gate:
                await self.ledger.post(self.client, content)

        await asyncio.gather(*(one(content) for content in contents))

    async def settled(self, timeout_s: float = SETTLED_S) -> None:
        """Wait until every accepted memory has its current vector, then check the promises."""
        await eventually(self._all_embedded, timeout_s, 0.1)
        await self.check()

    async def _all_embedded(self) -> bool:
        missing = await self.fetchval(
            "SELECT count(*) FROM unnest($1::uuid[]) AS i (id) LEFT JOIN engram.memory m "
            "USING (id) LEFT JOIN engram_vec.space_1 v ON v.memory_id = i.id "
            "WHERE v.version IS DISTINCT FROM m.version",
            list(self.ledger.accepted),
        )
        assert missing == 0, f"{missing} of {len(self.ledger.accepted)} wait for a vector"
        return True

    async def check(self) -> None:
        """Hold the store against the ledger with plain SQL: I1, I2, I3 and I4."""
        rows = await self.fetch("SELECT id, content FROM engram.memory WHERE state <> 'deleted'")
        assert {row["id"]: row["content"] for row in rows} == self.ledger.accepted
        gone = await self.fetch("SELECT id FROM engram.memory WHERE state = 'deleted'")
        assert {row["id"] for row in gone} == self.ledger.deleted
        vectors = await self.fetch("SELECT memory_id AS id FROM engram_vec.space_1")
        assert sorted(row["id"] for row in vectors) == sorted(self.ledger.accepted)
        stale = await self.fetchval(
            "SELECT count(*) FROM engram_vec.space_1 v JOIN engram.memory m "
            "ON m.id = v.memory_id AND m.version <> v.version"
        )
        assert stale == 0
        failures = await self.fetchval("SELECT count(*) FROM engram.embedding_failure")
        assert failures == 0

    async def check_vectors(self, right: Callable[[str], Vector]) -> None:
        """See that each stored vector is the one of the text the client was told is there."""
        rows = await self.fetch(
            "SELECT memory_id AS id, embedding::text AS numbers FROM engram_vec.space_1"
        )
        for row in rows:
            expected = right(self.ledger.accepted[row["id"]])
            error = np.abs(np.array(json.loads(row["numbers"])) - expected).max()
            assert error < _ROUNDING, f"{row['id']} has the vector of another text"

    async def lag(self) -> int:
        """Return how many outbox lines and accepted memories without a vector there are."""
        return int(
            await self.fetchval(
                "SELECT (SELECT count(*) FROM engram.outbox) + (SELECT count(*) "
                "FROM engram.memory m LEFT JOIN engram_vec.space_1 v ON v.memory_id = m.id "
                "WHERE v.memory_id IS NULL)"
            )
        )

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run plain SQL as the superuser, whom no policy hides anything from."""
        connection = await asyncpg.connect(self.postgres.superuser_dsn("engram"))
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """Return the first value of the first row."""
        return (await self.fetch(sql, *arguments))[0][0]


@contextlib.asynccontextmanager
async def cluster(
    postgres: PostgresServer,
    nats: NatsServer,
    logs: Path,
    names: Sequence[str] = ("ingest", "embedder", "curator"),
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Cluster]:
    """Bootstrap a store on two servers and run services against it as processes.

    Args:
        postgres: empty but for the schema.
        nats: empty.
        logs: folder of the services' logs.
        names: of the services; a second embedder is called ``embedder-2``.
        settings: further variables, for all of them.
    """
    ports = Ports()
    env = {**_env(postgres, nats), **(settings or {})}
    port, made = ports.keep(), await _bootstrapped(postgres, nats, env)
    services = {
        name: _service(name, (port if name == "ingest" else ports.keep(), ports.keep()), env, logs)
        for name in names
    }
    headers = {"Authorization": f"Bearer {made}"}
    try:
        for service in services.values():
            await service.start()
        await asyncio.gather(*(service.ready() for service in services.values()))
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield Cluster(postgres, nats, services, client, logs)
    finally:
        await asyncio.gather(*(service.stop() for service in services.values()))
        ports.release()


async def _bootstrapped(postgres: PostgresServer, nats: NatsServer, env: dict[str, str]) -> str:
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
        argv=(sys.executable, "-m", "engram_cli", "run", name.partition("-")[0]),
        env={**env, "ENGRAM_PORT": str(port), "ENGRAM_OPS_PORT": str(ops_port)},
        ready_url=f"http://127.0.0.1:{ops_port}/readyz",
    )
    return ServiceProcess(spec, logs, servers.fork_server())
