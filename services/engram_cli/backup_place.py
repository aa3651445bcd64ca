"""Where a backup is taken from and restored to: a data directory, running or not, or a database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from engram.errors import UnavailableError
from engram_cli.runtime.cluster import read_passwords
from engram_cli.runtime.datadir import default_data_dir, owned_data_dir, read_credentials
from engram_cli.runtime.lockfile import DirectoryLock
from engram_cli.runtime.ports import HOST
from engram_cli.runtime.postgres import DATABASE, PostgresServer

_OWNER: Final = "engram"


@dataclass(frozen=True, slots=True)
class Place:
    """A database to read from or to write to.

    Attributes:
        url: of a login that row-level security does not bind; it holds a password.
        owner_url: of the login that engram itself uses there, and ``owner`` its name.
        name: for a person.
    """

    url: str
    owner_url: str
    owner: str
    name: str

    def __repr__(self) -> str:  # the password stays out of logs and tracebacks
        return f"Place({self.name!r})"


@contextlib.asynccontextmanager
async def source(data: Path | None) -> AsyncIterator[Place]:
    """Yield what is backed up; servers that are not running are started for it alone.

    Args:
        data: a data directory; without it ENGRAM_DATABASE_URL, else the default directory.

    Raises:
        UnavailableError: there is no store, or it cannot be started.
    """
    if data is None and (url := os.environ.get("ENGRAM_DATABASE_URL", "")):
        yield _database(url)
        return
    folder = _folder(data)
    if not (folder / "postgres" / "PG_VERSION").exists():
        raise UnavailableError(
            "no_store", f"{folder} holds no store.", cure="Check --data or ENGRAM_DATA_DIR."
        )
    if DirectoryLock(folder / "engram.lock").is_held():
        yield _running(folder)
        return
    async with _started(folder) as place:
        yield place


@contextlib.asynccontextmanager
async def target(data: Path | None) -> AsyncIterator[Place]:
    """Yield where a backup is restored to; a data directory must not be in use.

    Raises:
        UnavailableError: it is in use, or cannot be made.
    """
    if data is None and (url := os.environ.get("ENGRAM_DATABASE_URL", "")):
        yield _database(url)
        return
    async with _started(_folder(data)) as place:
        yield place


@contextlib.asynccontextmanager
async def _started(folder: Path) -> AsyncIterator[Place]:
    with owned_data_dir(folder):
        server = PostgresServer(folder)
        await server.start()
        try:
            yield Place(server.superuser_dsn(), server.database_url, _OWNER, str(folder))
        finally:
            await server.stop()


def _running(folder: Path) -> Place:
    credentials = read_credentials(folder)
    if credentials is None:
        raise UnavailableError(
            "store_starting",
            f"An engram is starting on {folder}.",
            cure="Wait until `engram up` says that it is ready.",
        )
    port = urlsplit(credentials.database_url).port
    password = read_passwords(folder / "postgres").superuser
    url = f"postgresql://postgres:{password}@{HOST}:{port}/{DATABASE}"
    return Place(url, credentials.database_url, _OWNER, str(folder))


def _folder(data: Path | None) -> Path:
    return (data or default_data_dir()).expanduser().absolute()


def _database(url: str) -> Place:
    parts = urlsplit(url)
    return Place(url, url, unquote(parts.username or ""), f"{parts.hostname}{parts.path}")
