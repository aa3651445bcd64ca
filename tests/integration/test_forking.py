"""Services are forked from a process that has imported them, and are like any other child."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import uuid_utils.compat as ids

from engram_cli.runtime.children import ChildSpec
from engram_cli.runtime.forking import ForkServer, ForkServerError, forking
from engram_cli.runtime.service import ServiceProcess, ServiceSpec

CONFIG = (sys.executable, "-m", "engram_cli", "config", "--json")
WAITS = (sys.executable, "-m", "engram_cli", "bootstrap", "--wait-for", "ingest")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with forking(tmp_path_factory.mktemp("logs")) as started:
        yield started


def spec_of(folder: Path, argv: tuple[str, ...] = CONFIG, **env: str) -> ChildSpec:
    return ChildSpec("child", argv, folder / "child.log", env)


async def test_it_has_its_own_environment_log_and_exit_code(server, tmp_path):
    (tmp_path / "child.log").write_text("of the one before\n")
    child = await server.start_child(spec_of(tmp_path, ENGRAM_PORT="4711"))
    assert await child.wait() == 0
    assert (tmp_path / "child.log").read_text().startswith("of the one before\n")
    listed = json.loads(child.log_text(max_bytes=100_000))["settings"]
    told = {one["name"]: one["value"] for one in listed if one["source"] == "environment"}
    assert told == {"ENGRAM_PORT": 4711}


async def test_what_it_says_of_a_mistake_and_its_exit_code_are_those_of_the_command(
    server, tmp_path
):
    child = await server.start_child(spec_of(tmp_path, (*CONFIG[:3], "nonsense")))
    assert await child.wait() == 2
    assert "nonsense" in child.log_text()


async def test_it_leads_a_session_bears_its_name_and_ends_by_a_signal(server, tmp_path):
    child = await server.start_child(waiting(tmp_path))
    assert os.getsid(child.pid) == child.pid
    assert title(child.pid) == "engram bootstrap --wait-for ingest"
    assert child.running()
    assert await child.stop(signal.SIGTERM, 5) == -signal.SIGTERM
    assert not child.running()


async def test_without_its_server_it_ends_and_a_service_starts_by_itself(tmp_path):
    with forking(tmp_path) as server:
        child = await server.start_child(waiting(tmp_path))
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await child.wait() == -signal.SIGKILL
        with pytest.raises(ForkServerError):
            await server.start_child(spec_of(tmp_path))
        service = ServiceProcess(ServiceSpec("config", CONFIG), tmp_path, server)
        await service.start()
        assert await service.wait() == 0
        assert "ENGRAM_PORT" in (tmp_path / "config.log").read_text()


async def test_one_that_was_never_started_refuses():
    with pytest.raises(ForkServerError):
        await ForkServer().start_child(spec_of(Path("unused")))


def test_ids_made_after_a_fork_differ():
    ids.uuid7()
    reader, writer = os.pipe()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os.write(writer, ids.uuid7().bytes)
            os._exit(0)
        os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as made:
        listed = made.read()
    # Their random half, whatever the clock said.
    assert len({listed[at + 8 : at + 16] for at in range(0, 48, 16)}) == 3


def waiting(folder: Path) -> ChildSpec:
    """What waits for servers that are not there."""
    urls = {
        "ENGRAM_DATABASE_URL": "postgresql://127.0.0.1:9/none",
        "ENGRAM_NATS_URL": "nats://127.0.0.1:9",
    }
    return spec_of(folder, WAITS, **urls)


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()
