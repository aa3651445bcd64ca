"""Import jobs as rows: body in chunks, a lease, progress, and what came of single items."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg

from engram.errors import BusyError, NotFoundError
from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement

JobState = Literal["receiving", "queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Job:
    """One import job as it stands.

    Attributes:
        options: what was asked for, as the route decoded it.
        format: the format asked for, then the one found.
        body_bytes: size of the body; ``read_bytes`` how far it was read.
        position: index of the first item that is not accounted for yet.
        report: counts so far.
        archived: memories that a replacement has archived.
        ids: lowest and highest id of the rows it inserted.
        error: code and detail, when it failed.
        attempts: how often it was claimed at this position.
    """

    workspace: UUID
    id: UUID
    state: JobState
    actor: str
    options: dict[str, Any]
    format: str | None
    body_bytes: int
    read_bytes: int
    position: int
    report: dict[str, Any]
    archived: int
    ids: tuple[UUID, UUID] | None
    error: dict[str, Any] | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    restored_at: datetime | None

    @property
    def writer(self) -> str:
        """Who the history of a memory names as the actor."""
        return writer_of(self.id)


def writer_of(job: UUID) -> str:
    """Return the actor that the rows of a job carry."""
    return f"import:{job}"


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of an import was not taken."""

    index: int
    line: int | None
    external_id: str | None
    code: str
    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What a batch adds, written in its own transaction.

    Attributes:
        before: the position it went on from; ``after`` the one that follows it.
        ids: lowest and highest id of the rows it inserted.
    """

    before: int
    after: int
    read_bytes: int
    report: dict[str, Any]
    format: str
    ids: tuple[UUID, UUID] | None


class LeaseLostError(Exception):
    """Another runner has the job, or it was cancelled: nothing more may be written for it."""


def unknown_import() -> NotFoundError:
    """Return the one answer for unknown and foreign ids."""
    return NotFoundError(
        "import_not_found", "There is no such import.", cure="List them with GET /v1/imports."
    )


async def create(
    connection: Connection,
    workspace: UUID,
    job: UUID,
    *,
    actor: str,
    options: dict[str, Any],
    format_name: str | None,
    report: dict[str, Any],
    most: int,
) -> None:
    """Add a job whose body is about to come; a workspace may have ``most`` open at once.

    Raises:
        BusyError: it has as many.
    """
    await connection.execute(statement("import", "lock_workspace"), workspace)
    if await connection.fetchval(statement("import", "open_jobs"), workspace) >= most:
        raise BusyError(
            "too_many_imports",
            f"This workspace has {most} imports that wait or run.",
            cure="Wait for one to end, or cancel one: engram imports list.",
            retry_after_s=10,
        )
    await connection.execute(
        statement("import", "create"), workspace, job, actor, options, format_name, report
    )


async def append(
    connection: Connection, workspace: UUID, job: UUID, part: int, data: bytes, body_bytes: int
) -> None:
    """Store the next piece of the body; it need not be on disk before the job is queued.

    Raises:
        LeaseLostError: the job was swept away because its body stopped coming.
    """
    await connection.execute(statement("import", "chunks_may_wait"))
    await connection.execute(statement("import", "append"), workspace, job, part, data)
    found = await connection.fetchval(statement("import", "received"), workspace, job, body_bytes)
    if found is None:
        raise LeaseLostError


async def abandon(connection: Connection, workspace: UUID, job: UUID) -> None:
    """Give up a body that will not be complete: the next sweep erases it."""
    await connection.execute(statement("import", "abandon"), workspace, job)


async def queue(connection: Connection, workspace: UUID, job: UUID, body_bytes: int) -> None:
    """Let the job run: its body is complete.

    Raises:
        LeaseLostError: as `append`.
    """
    found = await connection.fetchval(statement("import", "queue"), workspace, job, body_bytes)
    if found is None:
        raise LeaseLostError


async def chunk(connection: Connection, workspace: UUID, job: UUID, part: int) -> bytes | None:
    """Return one piece of the body, None when it is gone."""
    found: bytes | None = await connection.fetchval(
        statement("import", "chunk"), workspace, job, part
    )
    return found


async def claim(connection: Connection, holder: UUID, lease: timedelta) -> Job | None:
    """Claim the oldest job that may run, or None; by the worker role, over all workspaces."""
    try:
        row = await connection.fetchrow(statement("import", "claim"), holder, lease)
    except asyncpg.UniqueViolationError:
        return None  # another runner claimed another job of the workspace at the same moment
    return _job(row) if row else None


async def extend(connection: Connection, job: Job, holder: UUID, lease: timedelta) -> bool:
    """Keep a claim; False when it was lost or the job cancelled."""
    found = await connection.fetchval(
        statement("import", "extend"), job.workspace, job.id, holder, lease
    )
    return found is not None


async def release(connection: Connection, job: Job, holder: UUID, pause: timedelta) -> None:
    """Give a claim back; the job may be claimed again after ``pause``."""
    await connection.execute(statement("import", "release"), job.workspace, job.id, holder, pause)


async def progress(
    connection: Connection, job: Job, holder: UUID, done: Progress, lease: timedelta
) -> None:
    """Move the job on, in the transaction that stored what it counts.

    Raises:
        LeaseLostError: this runner may no longer write for it; the transaction must end.
    """
    low, high = done.ids or (None, None)
    found = await connection.fetchval(
        statement("import", "progress"),
        *(job.workspace, job.id, holder, done.before, done.after, done.read_bytes),
        *(done.report, done.format, low, high, lease),
    )
    if found is None:
        raise LeaseLostError


async def finish(
    connection: Connection,
    job: Job,
    holder: UUID,
    state: JobState,
    *,
    report: dict[str, Any],
    format_name: str | None,
    error: dict[str, Any] | None = None,
    archived: int = 0,
) -> None:
    """End a job.

    Raises:
        LeaseLostError: as `progress`.
    """
    found = await connection.fetchval(
        statement("import", "finish"),
        *(job.workspace, job.id, holder, state, report, format_name, error, archived),
    )
    if found is None:
        raise LeaseLostError


async def cancel(connection: Connection, workspace: UUID, job: UUID) -> bool:
    """End a job that waits or runs; False when there is none such."""
    found = await connection.fetchval(statement("import", "cancel"), workspace, job)
    return found is not None


async def show(connection: Connection, workspace: UUID, job: UUID, *, lock: bool = False) -> Job:
    """Return a job; with ``lock`` nobody else changes it until the transaction ends.

    Raises:
        NotFoundError: there is none, or its body is still coming.
    """
    row = await connection.fetchrow(
        statement("import", "lock_job" if lock else "show"), workspace, job
    )
    if row is None:
        raise unknown_import()
    return _job(row)


async def page(connection: Connection, workspace: UUID, before: UUID, limit: int) -> list[Job]:
    """Return jobs, newest first."""
    rows = await connection.fetch(statement("import", "page"), workspace, before, limit)
    return [_job(row) for row in rows]


async def ahead(connection: Connection, job: Job) -> int:
    """Return how many jobs of the workspace go first."""
    return int(
        await connection.fetchval(statement("import", "ahead"), job.workspace, job.created_at)
    )


async def add_errors(connection: Connection, job: Job, errors: Sequence[ItemError]) -> None:
    """Write down why items were not taken."""
    if errors:
        columns = zip(
            *((e.index, e.line, e.external_id, e.code, e.pointer, e.detail) for e in errors),
            strict=True,
        )
        await connection.execute(
            statement("import", "add_errors"), job.workspace, job.id, *map(list, columns)
        )


async def errors(
    connection: Connection, workspace: UUID, job: UUID, after: int, limit: int
) -> list[ItemError]:
    """Return the errors of a job, in the order of its items."""
    rows = await connection.fetch(statement("import", "errors"), workspace, job, after, limit)
    return [ItemError(**row) for row in rows]


async def embedded(connection: Connection, job: Job, space: int) -> tuple[int, int]:
    """Return how many of the job's live memories have a current vector, and how many wait."""
    low, high = job.ids or (None, None)
    row = await connection.fetchrow(
        over_vectors("import", "embedded", space),
        *(job.workspace, job.id, low, high, job.writer, space),
    )
    return (row["embedded"], row["live"] - row["embedded"] - row["dead"]) if row else (0, 0)


def _job(row: asyncpg.Record) -> Job:
    plain = {name: row[name] for name in Job.__slots__ if name != "ids"}
    ids = (row["low_id"], row["high_id"]) if row["low_id"] else None
    return Job(**plain, ids=ids)
