"""The bulk lane's queue: batches of memory ids, claimed in turn over workspaces."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.vectors import MemoryId

_BEFORE_ALL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Claim:
    """Batches that are this worker's until the lease ends.

    Attributes:
        batches: their ids in the queue.
        memories: what they name, each batch in its own order.
        last: the workspace after which the next claim goes on.
        rung_at: when the oldest of them was queued.
    """

    batches: list[int]
    memories: list[MemoryId]
    last: UUID
    rung_at: datetime


async def add(
    connection: Connection, space: int, batches: Sequence[tuple[UUID, Sequence[UUID]]]
) -> None:
    """Queue batches: a workspace and ids of its memories."""
    # Arrays of arrays must be rectangular: each batch travels as the text of an array.
    listed = ["{" + ",".join(map(str, ids)) + "}" for _, ids in batches]
    workspaces = [workspace for workspace, _ in batches]
    await connection.execute(statement("bulk", "add"), space, workspaces, listed)


async def claim(
    connection: Connection, space: int, after: UUID, most: int, lease: timedelta
) -> Claim | None:
    """Claim the next batches, of about ``most`` memories; None when none is free.

    Args:
        connection: of the worker role.
        space: id of the space.
        after: the workspace served last; behind the last one it begins again at the first.
        most: memories; a single batch may have more.
        lease: how long others leave them alone.
    """
    sql = statement("bulk", "claim")
    rows = await connection.fetch(sql, space, after, most, lease)
    if not rows and after != _BEFORE_ALL:
        rows = await connection.fetch(sql, space, _BEFORE_ALL, most, lease)
    if not rows:
        return None
    return Claim(
        [row["id"] for row in rows],
        [(row["workspace"], memory) for row in rows for memory in row["ids"]],
        max(row["workspace"] for row in rows),
        min(row["rung_at"] for row in rows),
    )


async def extend(connection: Connection, batches: Sequence[int], lease: timedelta) -> None:
    """Keep claimed batches for so long from now."""
    await connection.execute(statement("bulk", "extend"), list(batches), lease)


async def finish(connection: Connection, batches: Sequence[int]) -> None:
    """Forget batches whose memories have their vectors or their failures."""
    await connection.execute(statement("bulk", "finish"), list(batches))


async def waiting(connection: Connection, space: int) -> tuple[int, float]:
    """Return how many memories wait, and for how many seconds the oldest batch has."""
    row = await connection.fetchrow(statement("bulk", "waiting"), space)
    return (row["memories"], row["oldest_s"]) if row else (0, 0.0)
