"""Erases what import jobs leave behind: bodies, digests, unseen rows, vectors of what left."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.updating import clear_vectors


async def uncleaned(
    connection: Connection, stale: timedelta, limit: int
) -> list[tuple[UUID, UUID, str]]:
    """Return (workspace, job, state) of jobs that ended, or whose body stopped coming."""
    rows = await connection.fetch(statement("import", "uncleaned"), stale, limit)
    return [(row["workspace"], row["id"], row["state"]) for row in rows]


async def drop(
    connection: Connection,
    what: Literal["drop_chunks", "drop_marks", "drop_staged"],
    workspace: UUID,
    job: UUID,
    limit: int,
) -> int:
    """Delete up to ``limit`` of a job's rows of one kind and return how many."""
    done = await connection.execute(statement("import", what), workspace, job, limit)
    return int(done.rsplit(" ", 1)[1])


async def drop_silent_vectors(
    connection: Connection, workspace: UUID, job: UUID, after: UUID, limit: int
) -> UUID | None:
    """Drop the vectors of a page of what a replacement archived; return where the next begins.

    The memories are locked first: one that is restored meanwhile keeps what it gets then.
    """
    rows = await connection.fetch(statement("import", "silent"), workspace, job, after, limit)
    if not rows:
        return None
    ids: Sequence[UUID] = [row["id"] for row in rows]
    await clear_vectors(connection, [workspace] * len(ids), ids)
    return ids[-1]


async def cleaned(connection: Connection, workspace: UUID, job: UUID) -> bool:
    """Say that nothing is left to erase; a job whose body never came is forgotten.

    Returns:
        Whether the job was forgotten.
    """
    done = await connection.execute(statement("import", "forget"), workspace, job)
    await connection.execute(statement("import", "cleaned"), workspace, job)
    return not done.endswith(" 0")


async def forget_old(connection: Connection, keep: timedelta, limit: int) -> int:
    """Forget jobs that ended long ago, with their errors; return how many."""
    rows = await connection.fetch(statement("import", "expired"), keep, limit)
    for row in rows:
        for name in ("drop_errors", "drop_items", "drop_job"):
            await connection.execute(statement("import", name), row["workspace"], row["id"])
    return len(rows)
