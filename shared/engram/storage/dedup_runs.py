"""Runs of the dedup sweep: one at a time in a workspace, counts, a cap, and undo of the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from engram.errors import ConflictError, NotFoundError
from engram.storage import auditing
from engram.storage.connection import Connection
from engram.storage.contention import LostRaceError
from engram.storage.merging import Cause
from engram.storage.queries import statement
from engram.storage.undoing import Undone, merges_of_run, undo_merges

State = Literal["running", "done", "cancelled", "capped", "failed"]
# Of one transaction of an undo: enough to be quick, few enough that nobody waits for its locks.
_MERGES = 50


@dataclass(frozen=True, slots=True)
class Run:
    """One run over a workspace.

    Attributes:
        options: what it was asked to do; its own business.
        counts: how many of what, added up over all who work on it.
        merge_cap: most memories it may absorb, None for any number.
        merged: memories it has absorbed so far.
        restored: of those, how many an undo has brought back.
        error: code and detail, of a run that failed.
    """

    workspace: UUID
    id: UUID
    state: State
    actor: str
    options: dict[str, Any]
    counts: dict[str, int]
    rule_version: str
    merge_cap: int | None
    merged: int
    restored: int
    error: dict[str, str] | None
    started_at: datetime
    finished_at: datetime | None
    undone_at: datetime | None

    def cause(self, reason: str = "guard", space: int | None = None) -> Cause:
        """Return what merges, proposals and conflicts of this run give as their cause."""
        return Cause(self.workspace, self.actor, self.id, self.rule_version, reason, space=space)


async def begin(
    connection: Connection,
    workspace: UUID,
    *,
    actor: str,
    options: Mapping[str, Any],
    rule_version: str,
    merge_cap: int | None,
    lease: timedelta,
) -> tuple[Run, bool]:
    """Begin a run, or join the one that is running: two at once are one.

    A run whose lease has passed belongs to nobody; it is marked failed, and a new one begins.

    Args:
        connection: in a transaction that sees the workspace; commit it before working on the run.
        workspace: to look through.
        actor: id of a key, or the name of a service.
        options: kept with the run, as JSON.
        rule_version: of the guard.
        merge_cap: most memories to absorb, None for any number.
        lease: how long it may go without `progress`.

    Returns:
        The run, and whether it was begun here.

    Raises:
        LostRaceError: the running one ended in this very moment; begin the transaction anew.
    """
    await connection.execute(statement("dedup_run", "fail_lost"), workspace)
    row = await connection.fetchrow(
        _sql("begin"), workspace, uuid7(), actor, dict(options), rule_version, merge_cap, lease
    )
    if row is not None:
        return _run(workspace, row), True
    row = await connection.fetchrow(_sql("running"), workspace)
    if row is None:
        raise LostRaceError
    return _run(workspace, row), False


async def progress(
    connection: Connection, run: Run, counts: Mapping[str, int], lease: timedelta
) -> bool:
    """Add to a run's counts and keep it; False when it has ended (cancelled, capped) meanwhile."""
    found = await connection.fetchval(
        statement("dedup_run", "progress"), run.workspace, run.id, dict(counts), lease
    )
    return found is not None


async def finish(
    connection: Connection,
    workspace: UUID,
    run_id: UUID,
    state: State = "done",
    error: Mapping[str, str] | None = None,
) -> Run:
    """End a run that is running, and enter it in the audit trail; another one stays as it ended.

    Raises:
        NotFoundError: there is no such run.
    """
    kept = None if error is None else dict(error)
    row = await connection.fetchrow(_sql("finish"), workspace, run_id, state, kept)
    if row is None:
        return await show(connection, workspace, run_id)
    run = _run(workspace, row)
    counts = {"merged": run.merged, **run.counts}
    entry = auditing.Entry(workspace, run.actor, f"dedup.{state}", str(run_id), counts)
    await auditing.record(connection, entry)
    return run


async def cancel(connection: Connection, workspace: UUID, run_id: UUID) -> Run:
    """Cancel a run: it merges nothing more. What it has merged stays; undo it if it should not.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: it has ended in another way.
    """
    run = await finish(connection, workspace, run_id, "cancelled")
    if run.state != "cancelled":
        raise ConflictError(
            "run_ended",
            f"The run has ended already: {run.state}.",
            cure="Only a run that is running can be cancelled; what it merged can be undone.",
        )
    return run


async def undo_some(
    connection: Connection, workspace: UUID, run_id: UUID, *, actor: str, now: datetime
) -> tuple[Undone, bool]:
    """Undo some merges of a run, the latest first; call it until it says that nothing is left.

    Each call is a transaction of its own: what it has undone stays undone, whatever comes after.

    Returns:
        What came of it, and whether merges are left.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: it is running.
        LostRaceError: begin the transaction anew.
    """
    run = await show(connection, workspace, run_id)
    if run.state == "running":
        raise ConflictError(
            "run_running", "The run is still running.", cure="Cancel it, or wait until it is done."
        )
    merges = await merges_of_run(connection, workspace, run_id, _MERGES)
    undone = Undone()
    if merges:
        undone = await undo_merges(connection, workspace, merges, actor=actor, now=now)
        sql = statement("undo", "count_restored")
        await connection.execute(sql, workspace, run_id, len(undone.restored))
    if len(merges) == _MERGES:
        return undone, True
    restored = await connection.fetchval(statement("dedup_run", "undone"), workspace, run_id)
    if restored is not None:
        counts = {"restored": restored}
        entry = auditing.Entry(workspace, actor, "dedup.undone", str(run_id), counts)
        await auditing.record(connection, entry)
    return undone, False


async def show(connection: Connection, workspace: UUID, run_id: UUID) -> Run:
    """Return a run.

    Raises:
        NotFoundError: there is no such run.
    """
    row = await connection.fetchrow(_sql("show"), workspace, run_id)
    if row is None:
        raise unknown_run()
    return _run(workspace, row)


async def page(connection: Connection, workspace: UUID, before: UUID, limit: int) -> list[Run]:
    """Return up to ``limit`` runs below the id ``before``, newest first."""
    rows = await connection.fetch(_sql("page"), workspace, before, limit)
    return [_run(workspace, row) for row in rows]


def unknown_run() -> NotFoundError:
    """Return the one answer for unknown runs and those of others."""
    return NotFoundError("run_not_found", "There is no such run.", cure="List the runs.")


def _sql(name: str) -> str:
    return statement("dedup_run", name).replace("{columns}", statement("dedup_run", "columns"))


def _run(workspace: UUID, row: asyncpg.Record) -> Run:
    return Run(workspace, **row)
