"""Scorecard R26: a disk is full; nothing is accepted that is not kept, and all goes on afterwards.

The disk is a small tmpfs of its own, which needs root: Postgres's in one test, NATS's in the other.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from engram.broker.connection import connect
from engram.broker.topology import reconcile
from engram.errors import UnavailableError
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.servers import migrate
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.wait import eventually

NAMES = ("ingest", "embedder")
_ROOM_BYTES = 32 * 1024**3


class Roomless(NatsServer):
    """A server that believes in more room than its disk has, as one beside other programs does."""

    def _config(self) -> dict[str, object]:
        config = super()._config()
        jetstream = config["jetstream"]
        assert isinstance(jetstream, dict)
        jetstream["max_file_store"] = _ROOM_BYTES
        return config


@contextlib.asynccontextmanager
async def postgres_on(disk: SmallDisk) -> AsyncIterator[PostgresServer]:
    server = PostgresServer(disk.folder)
    try:
        await server.start()
        await migrate(server.database_url)
        yield server
    finally:
        disk.free()
        await server.stop()


async def post(client: httpx.AsyncClient, content: str, key: str) -> httpx.Response | None:
    """Send one memory once; None when the connection was lost, which promises nothing."""
    with contextlib.suppress(httpx.TransportError):
        headers = {"Idempotency-Key": key}
        return await client.post("/v1/memories", json={"content": content}, headers=headers)
    return None


class Insisting:
    """Sends large memories once each, and keeps what was not accepted, to be sent again."""

    def __init__(self, running: Cluster) -> None:
        self._running = running
        self.answers: list[httpx.Response] = []
        self.open: dict[str, str] = {}

    async def refused(self, times: int) -> bool:
        """Send one memory; say whether so many were refused by now."""
        key, content = str(uuid4()), f"{uuid4()} {'a long text ' * 2_000}".strip()
        answer = await post(self._running.client, content, key)
        if answer is not None and answer.status_code == 201:
            self._running.ledger.accepted[UUID(answer.json()["id"])] = content
            return False
        self.open[key] = content
        if answer is not None:
            self.answers.append(answer)
        return len(self.answers) >= times

    async def send_again(self) -> None:
        """Do as the answers said: send everything again under its key, until it is accepted."""
        for key, content in self.open.items():
            await self._running.ledger.post(self._running.client, content, key)


@pytest.mark.timeout(180)
async def test_a_full_disk_of_postgres_refuses_writes_in_words_and_heals_by_itself(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with small_disk(320) as disk:
        async with (
            postgres_on(disk) as postgres,
            cluster(postgres, nats_server, tmp_path, NAMES) as running,
        ):
            await running.post_many([f"before {number}" for number in range(20)])
            disk.fill()
            sender = Insisting(running)
            await eventually(lambda: sender.refused(10), 60)
            answers = sender.answers
            assert {answer.status_code for answer in answers} == {503}
            codes = {answer.json()["code"] for answer in answers}
            # The second is what is said while Postgres recovers from a log it could not extend.
            assert codes <= {"store_full", "postgres_unavailable"}, codes
            assert all(answer.headers["Retry-After"] for answer in answers)
            disk.free()
            await sender.send_again()
            await running.post_many([f"after {number}" for number in range(20)])
            await running.settled()


@pytest.mark.timeout(180)
async def test_a_full_disk_of_nats_keeps_the_door_open_and_readiness_says_what_to_do(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with small_disk(48) as disk:
        nats = Roomless(disk.folder)
        await nats.start()
        try:
            async with cluster(postgres_server, nats, tmp_path, NAMES) as running:
                await running.post_many([f"before {number}" for number in range(20)])
                await running.settled()
                disk.fill()
                # Accepted although nothing can be announced: the outbox keeps what must happen.
                await running.post_many([f"meanwhile {number}" for number in range(50)])
                finding = await eventually(lambda: canary_finding(running), 60, 0.5)
                assert "restart nats-server" in finding["cure"]
                assert await running.lag() > 0
                disk.free()
                await nats.restart()
                await running.post_many([f"after {number}" for number in range(20)])
                await running.settled()
                await eventually(lambda: ready(running), 30, 0.5)
        finally:
            disk.free()
            await nats.stop()


async def test_a_disk_too_small_for_the_streams_is_told_in_words() -> None:
    with small_disk(48) as disk:
        nats = NatsServer(disk.folder)
        await nats.start()
        client = await connect(nats.nats_url, "test")
        try:
            with pytest.raises(UnavailableError) as refused:
                await reconcile(client.jetstream(), [])
        finally:
            await client.close()
            await nats.stop()
        assert refused.value.code == "nats_no_room"


async def readyz(running: Cluster) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.get(running.services["ingest"].spec.ready_url)


async def canary_finding(running: Cluster) -> dict[str, Any]:
    answer = await readyz(running)
    assert answer.status_code == 503, "still ready"
    found = {one["check"]: one for one in answer.json()["findings"]}
    assert "canary" in found, found
    return dict(found["canary"])


async def ready(running: Cluster) -> bool:
    return (await readyz(running)).status_code == 200
