"""Runs pg_dump and pg_restore of the embedded PostgreSQL, and proves what they did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import zipfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from engram.errors import EngramError, UnavailableError
from engram.storage.backing_up import adopt, census, moment, prepare_target
from engram.storage.migrate import expected_version
from engram_cli.backup_file import BackupWriter, damaged, dump_chunks
from engram_cli.backup_place import Place
from engram_cli.runtime.binaries import POSTGRES_MAJOR, postgres_tool

_CHUNK_BYTES: Final = 1 << 20
_SCHEMAS: Final = ("--schema=engram", "--schema=engram_vec")


async def back_up(place: Place, writer: BackupWriter) -> dict[str, Any]:
    """Write everything of a store as it is at this moment, and return the manifest.

    The store may be written meanwhile. Dump and manifest are of the same snapshot.

    Raises:
        EngramError: the store cannot be read, or pg_dump failed.
    """
    async with moment(place.url) as now:
        if now.server_version_num // 10_000 > POSTGRES_MAJOR:
            raise UnavailableError(
                "postgres_version",
                f"The server is PostgreSQL {now.postgres}; the pg_dump here is {POSTGRES_MAJOR}.",
                cure="Back it up with the pg_dump of that server.",
            )
        options = ("--format=custom", "--no-unlogged-table-data", f"--snapshot={now.snapshot}")
        async with _tool("pg_dump", place, (*options, *_SCHEMAS)) as process:
            assert process.stdout is not None  # noqa: S101 - asked for as a pipe
            while data := await process.stdout.read(_CHUNK_BYTES):
                writer.write(data)
        tables = await census(now.connection)
    return writer.close(
        {
            "engram": version("engram"),
            "schema_version": now.schema_version,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "postgres": now.postgres,
            "pgvector": now.pgvector,
            "tables": tables,
        }
    )


async def restore(place: Place, manifest: dict[str, Any], packed: zipfile.ZipFile) -> None:
    """Restore a verified backup into a place without a store, and prove that it is all there.

    Raises:
        ConflictError: the place holds a store; nothing was changed.
        EngramError: it could not be restored; nothing of it was left there.
    """
    refuse_newer(manifest)
    await prepare_target(place.url, place.owner_url)
    options = ("--single-transaction", "--exit-on-error", "--no-owner", f"--dbname={_bare(place)}")
    try:
        async with _tool("pg_restore", place, options) as process:
            await _feed(process, packed)
    except (zipfile.BadZipFile, EOFError):
        raise damaged() from None
    differing = await adopt(place.url, place.owner, manifest["tables"])
    if differing:
        raise EngramError(
            "restore_differs",
            f"What was restored is not what was backed up: {', '.join(differing)}. "
            "It was removed again.",
            cure="Restore it with the engram and the PostgreSQL that the manifest names.",
        )


def refuse_newer(manifest: dict[str, Any]) -> None:
    """Refuse a backup of a schema that this engram does not know.

    Raises:
        UnavailableError: it is newer.
    """
    if manifest["schema_version"] > expected_version():
        raise UnavailableError(
            "schema_too_new",
            f"The backup has schema version {manifest['schema_version']}; this engram knows up to "
            f"{expected_version()}.",
            cure=f"Restore it with engram {manifest['engram']} or later.",
        )


async def _feed(process: Process, packed: zipfile.ZipFile) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for as a pipe
    # A tool that stops early says why on standard error, which is asked next.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for data in dump_chunks(packed):
            process.stdin.write(data)
            await process.stdin.drain()
    process.stdin.close()


@contextlib.asynccontextmanager
async def _tool(name: str, place: Place, options: Sequence[str]) -> AsyncIterator[Process]:
    """Run one tool around a block, and see that it ended well.

    Raises:
        UnavailableError: it failed; its own first error is told.
    """
    where = () if name == "pg_restore" else (f"--dbname={_bare(place)}",)
    process = await asyncio.create_subprocess_exec(
        str(postgres_tool(name)), *options, *where,
        env=_environment(place), stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    assert process.stderr is not None  # noqa: S101 - asked for as a pipe
    said = asyncio.create_task(process.stderr.read())
    try:
        yield process
        code = await process.wait()
        if code:
            raise _failed(name, (await said).decode("utf-8", "replace"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await said


def _failed(name: str, said: str) -> UnavailableError:
    # Further lines may quote rows.
    mark = f"{name}: error: "
    errors = [line.removeprefix(mark) for line in said.splitlines() if line.startswith(mark)]
    return UnavailableError(
        "backup_tool_failed",
        f"{name} failed: {errors[0] if errors else 'it did not say why'}",
        cure="Check the server's log and the free space of both disks.",
    )


def _bare(place: Place) -> str:
    """Return the address without its password: arguments can be seen by every user."""
    parts = urlsplit(place.url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit(parts._replace(netloc=user + host))


def _environment(place: Place) -> dict[str, str]:
    password = urlsplit(place.url).password
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C", **({"PGPASSWORD": unquote(password)} if password else {})}
