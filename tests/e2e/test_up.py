"""``engram up`` as a user runs it: ready in one line, one per directory, kill -9 and back again."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import servers
from tests.support.wait import eventually

READY_KEYS = {"url", "api_key", "nats_url", "database_url", "data_dir", "ops_url"}


@contextlib.contextmanager
def up(data_dir: Path, *more: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``engram up`` on a directory until the block ends."""
    command = [sys.executable, "-m", "engram_cli", "up", "--json", "--port", "0", "--ops-port", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(data_dir), *more],
        env={**os.environ, "ENGRAM_EMBEDDING": "hashing@64", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


async def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the line that says where everything is."""
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert line, await asyncio.to_thread(process.stderr.read) if process.stderr else ""
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that the server's own account may enter."""
    with servers.open_folder("engram-test-up-") as folder:
        yield folder / "data"


@contextlib.asynccontextmanager
async def client_of(where: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a running ``up``."""
    headers = {"Authorization": f"Bearer {where['api_key']}"}
    async with httpx.AsyncClient(base_url=where["url"], headers=headers, timeout=30) as client:
        yield client


@pytest.mark.timeout(180)
async def test_what_was_accepted_survives_kill_9_of_everything(data_dir: Path) -> None:
    with up(data_dir) as process:
        where = await ready(process)
        assert where.keys() == READY_KEYS
        async with client_of(where) as client:
            answer = await client.post("/v1/memories?wait=embedded", json={"content": "kept"})
            assert answer.json()["embedded"] is True
            late = await client.post("/v1/memories", json={"content": "accepted just before"})
            assert late.status_code == 201
        process.kill()
        process.wait()
    await eventually(lambda: not servers.processes_naming(data_dir), 20)
    with up(data_dir) as process:
        again = await ready(process)
        assert again["api_key"] == where["api_key"]
        async with client_of(again) as client:
            await eventually(lambda: _both_found(client), 30)


async def _both_found(client: httpx.AsyncClient) -> bool:
    answer = await client.post("/v1/memories/search", json={"query": "kept accepted just before"})
    found = {hit["memory"]["content"] for hit in answer.json()["results"]}
    return found == {"kept", "accepted just before"}


@pytest.mark.timeout(120)
async def test_a_second_up_on_the_same_directory_is_refused_by_name(data_dir: Path) -> None:
    with up(data_dir) as first:
        await ready(first)
        with up(data_dir) as second:
            _, error = await asyncio.to_thread(second.communicate, timeout=60)
            assert second.returncode == 3
            problem = json.loads(error.strip().splitlines()[-1])
            assert problem["code"] == "data_dir_locked"
            assert str(data_dir) in problem["detail"]


@pytest.mark.timeout(120)
async def test_ctrl_c_stops_everything_and_a_killed_worker_comes_back(data_dir: Path) -> None:
    with up(data_dir) as process:
        where = await ready(process)
        async with client_of(where) as client:
            os.kill(_pid_of(data_dir, "embedder"), signal.SIGKILL)
            answer = await client.post("/v1/memories?wait=embedded", json={"content": "after"})
            assert answer.json()["embedded"] is True
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 130
    assert not servers.processes_naming(data_dir)


def _pid_of(data_dir: Path, service: str) -> int:
    """Return the process that writes a service's log and bears its name."""
    log, title = data_dir / "logs" / f"{service}.log", f"engram run {service}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "fd" / "1").readlink() == log:
                assert (entry / "cmdline").read_bytes().rstrip(b"\0 ") == title
                return int(entry.name)
    raise AssertionError(service)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("variable", "url", "code"),
    [
        ("ENGRAM_DATABASE_URL", "postgresql://nobody:x@127.0.0.1:1/none", "postgres_unavailable"),
        ("ENGRAM_NATS_URL", "nats://127.0.0.1:1", "nats_unavailable"),
    ],
)
async def test_bootstrap_without_a_server_says_which_and_exits_3(
    database_url: str, nats_url: str, variable: str, url: str, code: str
) -> None:
    env = {
        **os.environ,
        "ENGRAM_DATABASE_URL": database_url,
        "ENGRAM_NATS_URL": nats_url,
        "ENGRAM_EMBEDDING": "hashing@64",
        variable: url,
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "engram_cli", "bootstrap", "--json"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    problem = json.loads(done.stderr.strip().splitlines()[-1])
    assert problem["code"] == code
    assert variable in problem["cure"]
