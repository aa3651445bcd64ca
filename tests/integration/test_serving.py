"""What every service stands on: its operations port, its listening port, its background duties."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from engram.errors import EngramError, UnavailableError
from engram.serving.operations import Finding, operations_app
from engram.serving.process import background, connected, standard_checks
from engram.serving.web import listen, serve
from engram.settings import Settings
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.store import _prepare, open_store
from tests.support.wait import eventually


@pytest.fixture
async def ops() -> AsyncIterator[tuple[httpx.AsyncClient, list[Finding]]]:
    found: list[Finding] = []

    async def check() -> list[Finding]:
        return found

    app = operations_app("test", [check])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        yield client, found


async def test_the_operations_port_tells_health_readiness_and_metrics(
    ops: tuple[httpx.AsyncClient, list[Finding]],
) -> None:
    client, found = ops
    assert (await client.get("/healthz")).json() == {"service": "test", "status": "ok"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"service": "test", "status": "ready", "findings": []},
    )
    metrics = await client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "engram_commit_seconds" in metrics.text
    found.append(Finding("postgres", "It does not answer.", "Start it."))
    waiting = await client.get("/readyz")
    assert (waiting.status_code, waiting.json()["findings"]) == (
        503,
        [
            {
                "check": "postgres",
                "detail": "It does not answer.",
                "cure": "Start it.",
                "severity": "failure",
            }
        ],
    )
    assert (await client.get("/healthz")).status_code == 200


async def test_readiness_names_the_server_that_is_gone_and_forgets_it_again(
    postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    async with open_store(postgres_server.database_url, nats_server.nats_url) as store:
        postgres, broker = standard_checks(store.service)
        assert [*await postgres(), *await broker()] == []
        postgres_server.kill9()
        nats_server.kill9()
        await asyncio.gather(postgres_server.wait(), nats_server.wait())

        async def both_named() -> bool:
            found = [*await postgres(), *await broker()]
            return [finding.check for finding in found] == ["postgres", "nats"]

        await eventually(both_named)
        await asyncio.gather(postgres_server.restart(), nats_server.restart())

        async def healed() -> bool:
            return [*await postgres(), *await broker()] == []

        await eventually(healed)
        assert (await store.client.post("/v1/memories", json={"content": "x"})).status_code == 201


async def test_a_taken_port_is_refused_by_name_even_before_anything_is_served() -> None:
    first = listen("127.0.0.1", 0, "ENGRAM_PORT")
    with first, pytest.raises(UnavailableError) as refused:
        listen("127.0.0.1", first.getsockname()[1], "ENGRAM_PORT")
    assert refused.value.code == "port_busy"
    assert "ENGRAM_PORT" in refused.value.cure


async def test_a_request_in_flight_is_finished_when_serving_ends() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def app(scope: dict[str, str], _: object, send: object) -> None:
        asked.set()
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    bound = listen("127.0.0.1", 0, "ENGRAM_PORT")
    host, port = bound.getsockname()
    serving = asyncio.create_task(serve(app, bound))
    async with httpx.AsyncClient() as client:
        answer = asyncio.create_task(client.get(f"http://{host}:{port}/"))
        async with asyncio.timeout(10):
            await asked.wait()
        serving.cancel()
        go.set()
        assert (await answer).text == "done"
    await asyncio.gather(serving, return_exceptions=True)
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, port), 1):
        pass


async def test_a_duty_that_fails_ends_the_service() -> None:
    async def fails() -> None:
        raise ValueError

    with pytest.raises(EngramError) as ended:
        async with asyncio.timeout(5), background(fails()):
            await asyncio.Event().wait()
    assert ended.value.code == "duty_failed"
    assert isinstance(ended.value.__cause__, ValueError)


async def test_a_missing_server_is_named_and_its_password_is_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram.serving import process

    monkeypatch.setattr(process, "_PATIENCE_S", 0.0)
    gone = "127.0.0.1:1"
    await _prepare(database_url, Settings(embedding="hashing@256"))
    for database, broker, code in (
        (f"postgresql://engram:hunter2@{gone}/x", f"nats://{gone}", "postgres_unavailable"),
        (database_url, f"nats://engram:hunter2@{gone}", None),
    ):
        settings = Settings(database_url=database, nats_url=broker, embedding="hashing@256")
        with pytest.raises(UnavailableError) as refused:
            async with connected("test", settings):
                pass
        assert refused.value.code == (code or "nats_unavailable")
        assert "hunter2" not in str(refused.value)
