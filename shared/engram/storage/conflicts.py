"""A person's decision on a conflict: one of the two holds, or both do; and taking that back."""

from datetime import datetime
from uuid import UUID

import asyncpg

from engram.errors import InvalidError, NotFoundError
from engram.storage import auditing, findings
from engram.storage.connection import Connection
from engram.storage.merging import locked
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import statement
from engram.storage.records import as_time
from engram.storage.updating import clear_vectors


async def resolve(
    connection: Connection,
    workspace: UUID,
    conflict_id: UUID,
    *,
    keep: str,
    actor: str,
    now: datetime,
) -> UUID | None:
    """Close a conflict; the memory that no longer holds becomes superseded.

    Args:
        connection: in a READ COMMITTED transaction that sees the workspace.
        workspace: whose conflict.
        conflict_id: which.
        keep: ``both``, ``newer``, ``older``, or the id of one of the two.
        actor: who decides.
        now: when.

    Returns:
        The memory that was kept, None for both.

    Raises:
        NotFoundError: there is no such conflict.
        InvalidError: ``keep`` names none of these.
        ConflictError: it was resolved before, or one of the two has changed or gone.
    """
    row = await _found(connection, workspace, conflict_id)
    # Before the conflict's own row: a deletion takes them in this order, too.
    await locked(connection, workspace, (row["low"], row["high"]))
    row = await _found(connection, workspace, conflict_id)
    kept = _kept(row, keep)
    if row["state"] != "open":
        raise findings.decided_already(row["state"])
    if findings.is_stale(row):
        raise findings.stale()
    before = None
    if kept is not None:
        loser = row["high"] if kept == row["low"] else row["low"]
        before = await _supersede(connection, workspace, loser, now)
    sql = statement("finding", "resolve")
    await connection.execute(sql, workspace, conflict_id, now, actor, kept, before)
    await _audit(connection, workspace, actor, "conflict.resolved", conflict_id)
    return kept


async def reopen(
    connection: Connection, workspace: UUID, conflict_id: UUID, *, actor: str, now: datetime
) -> None:
    """Take a resolution back: what it superseded is live again, unless it was changed since.

    Done again, it changes nothing.

    Raises:
        NotFoundError: there is no such conflict.
    """
    row = await _found(connection, workspace, conflict_id)
    rows = await locked(connection, workspace, (row["low"], row["high"]))
    row = await _found(connection, workspace, conflict_id)
    sql = statement("finding", "reopen")
    if await connection.fetchval(sql, workspace, conflict_id) is None:
        return
    before = row["before"]
    loser = rows[row["high"] if row["survivor"] == row["low"] else row["low"]]
    if before is not None and loser["state"] == "superseded":
        await connection.execute(
            statement("finding", "live_again"),
            workspace,
            loser["id"],
            row["decided_at"],
            _time(before["valid_until"]),
            _time(before["updated_at"]),
        )
        said = Announcement("restored", workspace, loser["id"], loser["version"])
        await announce(connection, [said], now)
    await _audit(connection, workspace, actor, "conflict.reopened", conflict_id)


def unknown_conflict() -> NotFoundError:
    """Return the one answer for unknown conflicts and those of others."""
    return NotFoundError(
        "conflict_not_found", "There is no such conflict.", cure="List the conflicts."
    )


async def _supersede(
    connection: Connection, workspace: UUID, memory_id: UUID, now: datetime
) -> dict[str, str | None]:
    """Say that a memory, which the caller has locked, no longer holds; return what it was."""
    row = (await locked(connection, workspace, [memory_id]))[memory_id]
    await connection.execute(statement("finding", "supersede"), workspace, memory_id, now)
    # A later statement than the row's: a vector that is being written now would stay.
    await clear_vectors(connection, [workspace], [memory_id])
    await connection.execute(statement("memory", "erase_failures"), workspace, [memory_id])
    said = Announcement("updated", workspace, memory_id, row["version"])
    await announce(connection, [said], now)
    return {name: as_time(row[name]) for name in ("valid_until", "updated_at")}


def _kept(row: asyncpg.Record, keep: str) -> UUID | None:
    newer = findings.newer(row)
    older = row["high"] if newer == row["low"] else row["low"]
    named: dict[str, UUID | None] = {
        "both": None,
        "newer": newer,
        "older": older,
        str(newer): newer,
        str(older): older,
    }
    if keep not in named:
        raise InvalidError(
            "not_of_the_pair",
            "What is to be kept is none of the two.",
            cure="Send keep as both, newer, older, or one of the two ids.",
        )
    return named[keep]


async def _found(connection: Connection, workspace: UUID, conflict_id: UUID) -> asyncpg.Record:
    row = await findings.find(connection, workspace, "conflict", conflict_id)
    if row is None:
        raise unknown_conflict()
    return row


async def _audit(
    connection: Connection, workspace: UUID, actor: str, action: str, subject: UUID
) -> None:
    await auditing.record(connection, auditing.Entry(workspace, actor, action, str(subject)))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
