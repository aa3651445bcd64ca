"""What a benchmark measures: ``engram up`` with durable settings in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from engram.errors import UnavailableError
from engram.storage.connection import Pool, open_pool
from engram_cli.runtime.account import server_account
from engram_cli.runtime.children import Child, ChildSpec, start_child
from engram_cli.runtime.datadir import Credentials, read_credentials
from engram_cli.runtime.warden import Warden

EMBEDDING: Final = "null@1024"
DIMENSIONS: Final = 1024
_START_TIMEOUT_S: Final = 90.0
_STOP_GRACE_S: Final = 60.0
_POLL_S: Final = 0.05
_TROUBLE: Final = re.compile(r"error|warning|fatal|panic|code:|\bSee\b", re.IGNORECASE)
_TOLD_LINES: Final = 20
_SAID_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class Stack:
    """A running engram, and a pool beside it that reads what it stored.

    Attributes:
        where: addresses and key.
        pid: of ``engram up``.
        pool: of the worker role, of this process.
        workspace: that the key belongs to.
        space: the id of the only space.
    """

    where: Credentials
    pid: int
    pool: Pool
    workspace: UUID
    space: int

    @property
    def vectors(self) -> str:
        """The table of the space, as it is written in SQL."""
        return f"engram_vec.space_{self.space}"

    async def row(self, sql: str, *arguments: object) -> dict[str, Any]:
        """Return the only row of a query; ``{vectors}`` in it is the table of the space."""
        found = await self.pool.fetch(
            sql.replace("{vectors}", self.vectors), *arguments, timeout=600
        )
        [row] = found
        return dict(row)


@asynccontextmanager
async def running(
    embedding: str = EMBEDDING, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Stack]:
    """Start everything on free ports in a temporary folder; stop and remove it on leaving.

    Postgres and NATS run with the settings of a real ``engram up``: every commit waits for the
    disk, for engram and for the floor alike.

    Args:
        embedding: the space of the store.
        settings: further ``ENGRAM_`` variables.

    Raises:
        UnavailableError: it could not be started; the last line of its log says why.
    """
    with _folder() as folder:
        child = start_child(_spec(folder, {**settings, "ENGRAM_EMBEDDING": embedding}))
        try:
            where = await _ready(child, folder)
            pool = await open_pool(where.database_url, "engram_worker", size=4, name="bench")
            async with pool:
                workspace = await pool.fetchval("SELECT id FROM engram.workspace")
                space = await pool.fetchval("SELECT id FROM engram.space")
                yield Stack(where, child.pid, pool, workspace, space)
        except BaseException:
            _show_troubles(folder)
            raise
        finally:
            await child.stop(signal.SIGTERM, _STOP_GRACE_S)


def _spec(folder: Path, settings: Mapping[str, str]) -> ChildSpec:
    # A person's own settings would make it another measurement.
    env = {name: value for name, value in os.environ.items() if not name.startswith("ENGRAM_")}
    options = ("--data", str(folder / "data"), "--port", "0", "--ops-port", "0")
    return ChildSpec(
        name="engram up",
        argv=(sys.executable, "-m", "engram_cli", "up", *options),
        log_path=folder / "up.log",
        env={**env, **settings},
    )


async def _ready(child: Child, folder: Path) -> Credentials:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while child.running() and time.monotonic() < deadline:
        if (where := read_credentials(folder / "data")) is not None:
            return where
        await asyncio.sleep(_POLL_S)
    said = " ".join(line.strip() for line in child.log_text().splitlines()[-_SAID_LINES:])
    raise UnavailableError(
        "bench_not_started",
        f"engram up did not become ready: {said or 'it left no message'}",
        cure="Try `engram up --ephemeral` to see more.",
    )


def _show_troubles(folder: Path) -> None:
    """Write what the children complained of to the error stream, before their logs go."""
    for path in (folder / "up.log", *sorted((folder / "data" / "logs").glob("*.log"))):
        with contextlib.suppress(OSError):
            lines = path.read_text("utf-8", "replace").splitlines()
            told = [line for line in lines if _TROUBLE.search(line)]
            sys.stderr.writelines(f"{path.name}: {line}\n" for line in told[-_TOLD_LINES:])


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that the database's user may enter; it goes even if we are killed."""
    path = Path(tempfile.mkdtemp(prefix="engram-bench-"))
    path.chmod(0o700 if server_account() is None else 0o711)
    warden = Warden()
    warden.start()
    warden.remove_folder(path)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
        warden.close()
