"""``run_up``: everything starts, what dies comes back, and nothing outlives it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import nats
import pytest

from engram_cli.runtime.service import answers
from tests.support.servers import open_folder, processes_naming
from tests.support.wait import eventually

# A service with a worker of its own, as the embedder has; the data directory is in both their
# arguments, by which the tests find them.
SERVICE = """
import http.server, subprocess, sys
folder, port = sys.argv[1], int(sys.argv[2])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", folder])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""

UP = f"""
import asyncio, dataclasses, json, pathlib, structlog, sys
from engram.errors import EngramError
from engram_cli.runtime.service import ServiceSpec
from engram_cli.runtime.up import BootstrapResult, UpOptions, run_up
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
SERVICE = {SERVICE!r}
folder, ephemeral, code = sys.argv[1], sys.argv[2] == "ephemeral", sys.argv[3]

def services(endpoints):
    argv = (sys.executable, "-c", code or SERVICE, str(endpoints.data_dir), str(endpoints.ops_port))
    return [ServiceSpec("fake", argv, ready_url=endpoints.ops_url + "/readyz")]

async def bootstrap(database_url, nats_url, needs_key):
    return BootstrapResult("key-1" if needs_key else None)

options = UpOptions(services, pathlib.Path(folder), ephemeral, http_port=0, ops_port=0)
def announce(ready):
    print(json.dumps(dataclasses.asdict(ready.credentials)), flush=True)
try:
    received = asyncio.run(run_up(options, bootstrap, announce))
    print(received.name, flush=True)
except EngramError as error:
    print(json.dumps([error.code, error.detail, error.cure]), flush=True)
"""


class Up:
    """One ``run_up`` in a process of its own."""

    def __init__(self, folder: Path, ephemeral: bool, service: str) -> None:
        mode = "ephemeral" if ephemeral else "durable"
        argv = [sys.executable, "-c", UP, str(folder), mode, service]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    async def line(self):
        line = await asyncio.to_thread(self.process.stdout.readline)
        return json.loads(line) if line[:1] in "[{" else line.strip()

    async def end(self, how: signal.Signals) -> str:
        self.process.send_signal(how)
        last = await self.line()
        await asyncio.to_thread(self.process.wait, 30)
        return last


@pytest.fixture
def folder():
    with open_folder() as path:
        yield path


@pytest.fixture
def start(folder):
    with contextlib.ExitStack() as stack:

        def begin(*, ephemeral: bool = False, service: str = "") -> Up:
            up = Up(folder, ephemeral, service)
            stack.callback(up.process.stdout.close)
            stack.callback(up.process.wait)
            stack.callback(up.process.kill)
            return up

        yield begin


def others(folder: Path, up: Up) -> set[int]:
    return processes_naming(folder) - {up.process.pid, os.getpid()}


async def ask(dsn: str, query: str):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def messages(url: str, *, publish: bool = False) -> int:
    connection = await nats.connect(url, allow_reconnect=False)
    try:
        stream = connection.jetstream()
        if publish:
            await stream.add_stream(name="kept", subjects=["kept"])
            await stream.publish("kept", b"1")
        return (await stream.stream_info("kept")).state.messages
    finally:
        await connection.close()


async def test_it_answers_stops_on_sigterm_and_comes_back_with_data_and_key(folder, start):
    first = start()
    told = await first.line()
    assert await answers(told["ops_url"] + "/readyz")
    assert json.loads((folder / "credentials.json").read_text()) == told
    assert (folder / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert (told["api_key"], told["data_dir"]) == ("key-1", str(folder))
    await ask(told["database_url"], "CREATE TABLE kept AS SELECT 7 AS value")
    await messages(told["nats_url"], publish=True)
    assert await first.end(signal.SIGTERM) == "SIGTERM"
    assert others(folder, first) == set()
    again = start()
    told = await again.line()
    assert told["api_key"] == "key-1"
    assert await ask(told["database_url"], "SELECT value FROM kept") == 7
    assert await messages(told["nats_url"]) == 1
    assert await again.end(signal.SIGINT) == "SIGINT"


async def test_a_second_one_on_the_same_directory_is_refused_by_name(folder, start):
    first = start()
    await first.line()
    code, detail, cure = await start().line()
    assert code == "data_dir_locked"
    assert f"process {first.process.pid}" in detail
    assert str(folder) in detail
    assert "--data" in cure


async def test_whatever_is_killed_comes_back_on_the_same_port_with_its_data(folder, start):
    up = start()
    told = await up.line()
    await ask(told["database_url"], "CREATE TABLE kept AS SELECT 7 AS value")
    await messages(told["nats_url"], publish=True)
    victims = others(folder, up)
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)

    async def all_back() -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, nats.errors.Error):
            value = await ask(told["database_url"], "SELECT value FROM kept")
            count = await messages(told["nats_url"])
            return (value, count, await answers(told["ops_url"])) == (7, 1, True)
        return False

    await eventually(all_back)
    assert victims.isdisjoint(others(folder, up))
    assert up.process.poll() is None


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_killed_with_9_it_leaves_no_child_and_no_grandchild(folder, start, ephemeral):
    up = start(ephemeral=ephemeral)
    told = await up.line()
    data_dir = Path(told["data_dir"])
    client = await asyncpg.connect(told["database_url"])
    left = others(data_dir, up)
    # postgres with its backends, nats-server, the service, and the service's own worker
    assert len(left) > 4
    up.process.kill()
    await eventually(lambda: not left & processes_naming(data_dir))
    await eventually(lambda: data_dir.exists() is not ephemeral)
    client.terminate()


async def test_an_ephemeral_run_leaves_nothing(start):
    up = start(ephemeral=True)
    data_dir = Path((await up.line())["data_dir"])
    assert (data_dir / "postgres").is_dir()
    assert await up.end(signal.SIGINT) == "SIGINT"
    assert list(data_dir.parent.glob(data_dir.name)) == []
    assert others(data_dir, up) == set()


async def test_ctrl_c_while_starting_gives_up_and_leaves_no_process(folder, start):
    up = start()
    await eventually(lambda: list(folder.glob("postgres.new-*")))
    assert await up.end(signal.SIGINT) == "SIGINT"
    assert others(folder, up) == set()
    assert list(folder.glob("postgres*/*")) == []


async def test_a_service_that_ends_while_starting_stops_everything_and_says_why(folder, start):
    up = start(service="raise SystemExit('no such provider: vogaye')")
    code, detail, cure = await up.line()
    assert code == "service_failed"
    assert "fake ended while starting: no such provider: vogaye" in detail
    assert "logs/fake.log" in cure
    await asyncio.to_thread(up.process.wait, 30)
    assert others(folder, up) == set()
