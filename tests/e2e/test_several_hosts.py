"""Several hosts: a NATS cluster of three, two of each service; the leader and one of each die.

What was accepted is held against the client's own ledger by plain SQL, as in every fault test.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.trio import Trio, nats_trio
from tests.support.wait import eventually

KINDS = ("ingest", "embedder", "curator")
NAMES = (*KINDS, *(f"{kind}-2" for kind in KINDS))
WRITERS = 4
STREAM = "ENGRAM_MEMORY"


class EitherDoor:
    """A client as one has it behind a load balancer: each request goes to the next door.

    Args:
        urls: of the doors.
        headers: sent with each request.
    """

    def __init__(self, urls: list[str], headers: httpx.Headers) -> None:
        self._doors = [httpx.AsyncClient(base_url=url, headers=headers, timeout=10) for url in urls]
        self._turn = itertools.cycle(self._doors)
        self._numbers = itertools.count()

    def text(self) -> str:
        """Return a text that was not sent before."""
        return f"memory {next(self._numbers)} of several hosts"

    async def request(self, verb: str, path: str, **options: Any) -> httpx.Response:
        return await next(self._turn).request(verb, path, **options)

    async def close(self) -> None:
        for door in self._doors:
            await door.aclose()


@contextlib.asynccontextmanager
async def steady_load(running: Cluster, doors: EitherDoor) -> AsyncIterator[None]:
    """Write one memory after another, from several writers, while inside."""
    ended = asyncio.Event()

    async def write() -> None:
        while not ended.is_set():
            await running.ledger.post(doors, doors.text())

    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(write())
        try:
            yield
        finally:
            ended.set()


@contextlib.asynccontextmanager
async def two_of_each(
    postgres: PostgresServer, logs: Path
) -> AsyncIterator[tuple[Cluster, Trio, EitherDoor]]:
    """Run the whole of it: one Postgres, three NATS servers, six service processes."""
    settings = {"ENGRAM_REPLICAS": "3"}
    async with (
        nats_trio() as trio,
        cluster(postgres, trio, logs, NAMES, settings) as running,
    ):
        urls = [
            f"http://127.0.0.1:{running.services[name].spec.env['ENGRAM_PORT']}"
            for name in ("ingest", "ingest-2")
        ]
        doors = EitherDoor(urls, running.client.headers)
        try:
            yield running, trio, doors
        finally:
            await doors.close()


async def accepted_more(running: Cluster, count: int) -> None:
    before = len(running.ledger.accepted)
    await eventually(lambda: len(running.ledger.accepted) >= before + count, 60)


async def lose(running: Cluster, trio: Trio, doors: EitherDoor, victims: str) -> str:
    """Kill the stream's leader and one of each service under load; return who led."""
    async with steady_load(running, doors):
        await accepted_more(running, 30)
        leader = await trio.leader(STREAM)
        trio.members[leader].kill9()
        for kind in KINDS:
            await running.kill9(f"{kind}{victims}")
        await accepted_more(running, 60)
        assert await trio.leader(STREAM) != leader
    # What is left does all the work.
    await running.settled()
    return leader


async def come_back(
    running: Cluster, trio: Trio, doors: EitherDoor, leader: str, victims: str
) -> None:
    """Start under load what was killed, and see that nothing was lost by that either."""
    async with steady_load(running, doors):
        await trio.members[leader].restart()
        for kind in KINDS:
            await running.start(f"{kind}{victims}")
        await accepted_more(running, 50)
    await running.settled()


async def copies_of(trio: Trio) -> int:
    """Return how many servers hold the event stream and are up to date with it."""
    import nats

    client = await nats.connect(trio.nats_url.split(","))
    try:
        info = await client.jetstream().stream_info(STREAM)
        assert info.cluster is not None
        return 1 + sum(bool(peer.current) for peer in info.cluster.replicas or ())
    finally:
        await client.close()


@pytest.mark.timeout(180)
async def test_a_cluster_that_loses_its_leader_and_one_of_each_service_loses_nothing(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    async with two_of_each(postgres_server, tmp_path) as (running, trio, doors):
        assert await copies_of(trio) == 3
        await lose(running, trio, doors, "")


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_ten_such_losses_and_returns_lose_nothing(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    async with two_of_each(postgres_server, tmp_path) as (running, trio, doors):
        for number in range(10):
            victims = "-2" if number % 2 else ""
            leader = await lose(running, trio, doors, victims)
            await come_back(running, trio, doors, leader, victims)

            async def whole() -> bool:
                return await copies_of(trio) == 3

            await eventually(whole, 60, 0.5)
