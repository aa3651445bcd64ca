"""Runs of decay: one at a time in a workspace, scheduled or asked for, and how far they came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from engram.errors import NotFoundError
from engram.storage import auditing
from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.records import as_time

State = Literal["queued", "running", "done", "failed"]
# Renewed by every batch; a run whose lease is over belongs to nobody and may be gone on with.
LEASE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Run:
    """One run over a workspace, or over one namespace of it.

    Attributes:
        actor: the key that asked for it, or ``curator``.
        archived: memories it has archived so far.
        restored: of those, how many were restored.
        slowed: namespaces of which it left some for the next run, because of the cap.
        slowed_namespaces: the first hundred of them.
        error: the name of what stopped it.
    """

    workspace: UUID
    id: UUID
    state: State
    actor: str
    namespace: str | None
    archived: int
    restored: int
    slowed: int
    slowed_namespaces: list[str]
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def described(self) -> dict[str, Any]:
        """Return the public shape."""
        return {
            "id": str(self.id),
            "state": self.state,
            "actor": self.actor,
            "namespace": self.namespace,
            "archived": self.archived,
            "restored": self.restored,
            "slowed": self.slowed,
            "slowed_namespaces": self.slowed_namespaces,
            "error": self.error,
            "created_at": as_time(self.created_at),
            "started_at": as_time(self.started_at),
            "finished_at": as_time(self.finished_at),
        }


async def begin(connection: Connection, workspace: UUID, actor: str) -> Run | None:
    """Begin a run over a whole workspace; None where another one is running."""
    sql = _sql("begin_run")
    row = await connection.fetchrow(sql, workspace, uuid7(), actor, None, LEASE)
    return None if row is None else _run(workspace, row)


async def queue(connection: Connection, workspace: UUID, actor: str, namespace: str | None) -> Run:
    """Ask for a run; one for the same that still waits is that run."""
    rows = await connection.fetch(_sql("queued_run"), workspace, namespace)
    if not rows:
        rows = await connection.fetch(_sql("queue_run"), workspace, uuid7(), actor, namespace)
    return _run(workspace, rows[0])


async def take_over(connection: Connection, workspace: UUID) -> Run | None:
    """Go on with a run over this workspace whose process is gone; None when there is none."""
    row = await connection.fetchrow(_sql("take_over_run"), workspace, LEASE)
    return None if row is None else _run(workspace, row)


async def claim(connection: Connection) -> Run | None:
    """Take what was asked for first and can begin, or what its process has left; None else."""
    row = await connection.fetchrow(_sql("claim_run"), LEASE)
    return None if row is None else Run(**row)


async def slow(connection: Connection, run: Run, namespaces: Sequence[str]) -> None:
    """Note namespaces of which the cap left some for the next run."""
    sql = statement("decay", "slow_run")
    await connection.execute(sql, run.workspace, run.id, list(namespaces))


async def finish(
    connection: Connection, run: Run, state: State = "done", error: str | None = None
) -> Run:
    """End a run, and enter it in the audit trail; one that has ended stays as it ended."""
    async with connection.transaction():
        row = await connection.fetchrow(_sql("finish_run"), run.workspace, run.id, state, error)
        if row is None:
            return await show(connection, run.workspace, run.id)
        ended = _run(run.workspace, row)
        counts = {"archived": ended.archived, "slowed": ended.slowed}
        entry = auditing.Entry(run.workspace, run.actor, f"decay.{state}", str(run.id), counts)
        await auditing.record(connection, entry)
    return ended


async def show(connection: Connection, workspace: UUID, run_id: UUID) -> Run:
    """Return a run.

    Raises:
        NotFoundError: there is no such run.
    """
    row = await connection.fetchrow(_sql("show_run"), workspace, run_id)
    if row is None:
        raise unknown_run()
    return _run(workspace, row)


async def page(connection: Connection, workspace: UUID, before: UUID, limit: int) -> list[Run]:
    """Return up to ``limit`` runs below the id ``before``, newest first."""
    rows = await connection.fetch(_sql("page_runs"), workspace, before, limit)
    return [_run(workspace, row) for row in rows]


async def archived_page(
    connection: Connection, run: Run, after: UUID, limit: int
) -> list[dict[str, Any]]:
    """Return what a run has archived, in order of id, in its public shape."""
    sql = statement("decay", "archived_page")
    return [
        {
            "memory_id": str(row["memory_id"]),
            "namespace": row["namespace"],
            "importance_left": row["importance_left"],
            "archived_at": as_time(row["archived_at"]),
            "restored_at": as_time(row["restored_at"]),
        }
        for row in await connection.fetch(sql, run.workspace, run.id, after, limit)
    ]


def unknown_run() -> NotFoundError:
    """Return the one answer for unknown runs and those of others."""
    return NotFoundError("run_not_found", "There is no such run.", cure="List the runs.")


def _sql(name: str) -> str:
    return statement("decay", name).replace("{columns}", statement("decay", "run_columns"))


def _run(workspace: UUID, row: asyncpg.Record) -> Run:
    return Run(workspace, **row)
