"""Real PostgreSQL and NATS servers for tests: cheap ones to share, private ones to kill."""

import asyncio
import atexit
import contextlib
import functools
import importlib.util
import shutil
import socket
import struct
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg

from engram_cli.runtime.forking import ForkServer
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer

TEMPLATE = "engram_template"


@contextlib.contextmanager
def open_folder(prefix: str = "engram-test-") -> Iterator[Path]:
    """Yield a temporary folder that the servers' user may enter, and remove it afterwards.

    pytest's ``tmp_path`` lies below a 0700 folder: as root, PostgreSQL's user cannot get there.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def shared_postgres() -> Iterator[PostgresServer]:
    """Yield a running server holding the migrated template database; for one pytest process."""
    with open_folder("engram-test-pg-") as folder:
        server = PostgresServer(
            folder, ephemeral=True, settings={"max_connections": "200", "max_wal_size": "256MB"}
        )
        try:
            asyncio.run(_start_with_template(server))
            yield server
        finally:
            asyncio.run(server.stop())


@functools.cache
def fork_server() -> ForkServer:
    """Return the fork server of this pytest process: services start in a moment, as in ``up``."""
    server, folders = ForkServer(), contextlib.ExitStack()
    server.start(folders.enter_context(open_folder()) / "fork-server.log")
    folders.callback(server.close)
    atexit.register(folders.close)
    return server


@contextlib.asynccontextmanager
async def cloned_database(server: PostgresServer) -> AsyncIterator[str]:
    """Yield the name of a fresh copy of the template database; it is dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    await _administer(
        server, f"CREATE DATABASE {name} OWNER engram TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"
    )
    try:
        yield name
    finally:
        await _administer(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def private_postgres(*, migrated: bool = True) -> AsyncIterator[PostgresServer]:
    """Yield a server of one test's own, on a fixed port, free to be killed.

    It never waits for the disk, which no process that is killed takes with it: what was committed
    is in the system's memory. All else is as in ``engram up``.
    """
    with open_folder("engram-test-pg-") as folder:
        if migrated:
            await asyncio.to_thread(_copy, await _migrated_cluster(), folder / "postgres")
        server = PostgresServer(folder, settings={"fsync": "off"})
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


_migrated: list[Path] = []


async def _migrated_cluster() -> Path:
    """Return a cluster with the current schema that nobody runs: made once, then copied."""
    if not _migrated:
        folders = contextlib.ExitStack()
        atexit.register(folders.close)
        folder = folders.enter_context(open_folder("engram-test-pg-"))
        server = PostgresServer(folder, settings={"fsync": "off"})
        try:
            await server.start()
            await migrate(server.database_url)
        finally:
            await server.stop()
        _migrated.append(server.data_dir / "postgres")
    return _migrated[0]


def _copy(cluster: Path, to: Path) -> None:
    """Copy a folder with its owners, as only ``cp`` does."""
    subprocess.run(["cp", "-a", cluster, to], check=True)


@contextlib.asynccontextmanager
async def private_nats(*, durable: bool = False) -> AsyncIterator[NatsServer]:
    """Yield a NATS server of one test's own, on a fixed port, free to be killed."""
    with open_folder("engram-test-nats-") as folder:
        server = NatsServer(folder, ephemeral=not durable)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def migrate(database_url: str) -> None:
    """Bring a database to the current schema."""
    module = "engram.storage.migrate"
    if importlib.util.find_spec(module) is not None:
        await importlib.import_module(module).migrate(database_url)


async def _start_with_template(server: PostgresServer) -> None:
    await server.start()
    # Renamed, not cloned: roles that the schema makes belong to the whole server anyway.
    await _administer(server, f"ALTER DATABASE engram RENAME TO {TEMPLATE}")
    await migrate(server.dsn(TEMPLATE))


async def _administer(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.superuser_dsn("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def listening_addresses(port: int) -> set[str]:
    """Return the addresses on which this machine listens on ``port`` (Linux's own tables)."""
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                words = [address[at : at + 8] for at in range(0, len(address), 8)]
                packed = b"".join(struct.pack("=I", int(word, 16)) for word in words)
                found.add(socket.inet_ntop(family, packed))
    return found


def processes_naming(folder: Path) -> set[int]:
    """Return the living processes that have ``folder`` in their arguments or work inside it."""
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _names(entry, str(folder))
    }


def _names(process: Path, text: str) -> bool:
    with contextlib.suppress(OSError):
        inside = str((process / "cwd").readlink()).startswith(text)
        return inside or text in (process / "cmdline").read_bytes().decode("utf-8", "replace")
    return False
