"""Scorecard R7: the connection is cut before the answer, the client asks again: one row a key."""

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

SHORT, FULL = 60, 2000
# Longer than a commit takes, so that cuts fall before, during and after it.
LONGEST_S = 0.02


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """The HTTP door and an embedder as processes."""
    async with cluster(postgres_server, nats_server, tmp_path, ("ingest", "embedder")) as some:
        yield some


def raw(running: Cluster, key: str, content: str) -> tuple[bytes, bytes]:
    """Return head and body of the request that `Cluster.client` sends: the same to the byte."""
    body = json.dumps({"content": content}, separators=(",", ":")).encode()
    head = (
        "POST /v1/memories HTTP/1.1\r\nHost: engram\r\nContent-Type: application/json\r\n"
        f"Authorization: {running.client.headers['authorization']}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


@contextlib.asynccontextmanager
async def sent(running: Cluster, request: bytes, *, reset: bool) -> AsyncIterator[None]:
    """Send bytes and, on leaving, cut the line: with a reset, or as one who closes politely."""
    url, loop = running.client.base_url, asyncio.get_running_loop()
    with socket.socket() as line:
        line.setblocking(False)
        await loop.sock_connect(line, (url.host, url.port))
        if reset:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await loop.sock_sendall(line, request)
        yield


async def cut_then_again(running: Cluster, number: int) -> None:
    """Cut one request one to three times, then ask until it is answered, twice."""
    chance = random.Random(number)
    key, content = f"cut-{number}", f"memory {number} over a bad line"
    head, body = raw(running, key, content)
    for _ in range(chance.randint(1, 3)):
        whole = chance.random() < 0.8
        request = head + (body if whole else body[: len(body) // 2])
        async with sent(running, request, reset=chance.random() < 0.5):
            await asyncio.sleep(chance.uniform(0, LONGEST_S))  # when to cut is what is tried
    memory_id = await running.ledger.post(running.client, content, key)
    again = await running.client.post(
        "/v1/memories", content=body, headers={"Idempotency-Key": key}
    )
    assert (again.status_code, UUID(again.json()["id"])) == (201, memory_id)
    assert again.headers["idempotency-replayed"] == "true"


async def under_cuts(running: Cluster, requests: int) -> None:
    gate = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with gate:
            await cut_then_again(running, number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(requests):
            tasks.create_task(one(number))
    assert len(running.ledger.accepted) == requests
    await running.settled()


@pytest.mark.timeout(120)
async def test_a_request_cut_before_its_answer_is_stored_once_however_often_it_is_sent(
    running: Cluster,
) -> None:
    await under_cuts(running, SHORT)
    assert await running.fetchval("SELECT count(*) FROM engram.idempotency") == SHORT


@pytest.mark.timeout(120)
async def test_half_a_request_stores_nothing(running: Cluster) -> None:
    head, body = raw(running, "half", "never sent to its end")
    for reset in (True, False):
        async with sent(running, head + body[:-1], reset=reset):
            pass
    # Answered after them by the same process: what they did is done.
    await running.ledger.post(running.client, "sent to its end")
    await running.settled()


@pytest.mark.timeout(120)
async def test_what_was_stored_without_an_answer_is_what_the_retry_is_told_of(
    running: Cluster,
) -> None:
    head, body = raw(running, "lost-answer", "stored, but nobody was told")
    async with sent(running, head + body, reset=True):
        stored = await eventually(lambda: running.fetch("SELECT id FROM engram.memory"))
    headers = {"Idempotency-Key": "lost-answer"}
    again = await running.client.post("/v1/memories", content=body, headers=headers)
    assert UUID(again.json()["id"]) == stored[0]["id"]
    assert again.headers["idempotency-replayed"] == "true"
    running.ledger.accepted[stored[0]["id"]] = "stored, but nobody was told"
    await running.settled()


@pytest.mark.chaos
@pytest.mark.timeout(1200)
async def test_thousands_of_cut_requests_are_stored_once_each(running: Cluster) -> None:
    await under_cuts(running, FULL)
