"""Writes down that memories were found: many in one statement, without waiting for a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from engram.storage.connection import Pool, about
from engram.storage.queries import statement


@dataclass(frozen=True, slots=True)
class Access:
    """That a memory was found, some times, and when last."""

    workspace: UUID
    id: UUID
    hits: int
    at: datetime

    @property
    def key(self) -> tuple[UUID, UUID]:
        """Id first: the order in which rows are locked. Two workspaces may hold the same id."""
        return self.id, self.workspace


async def count_accesses(pool: Pool, batch: Sequence[Access]) -> list[Access]:
    """Add accesses to their memories, in one statement; return those to try again.

    A memory that somebody holds locked is left out: waiting for it would hold up all others. What
    is not active any more is forgotten.

    Args:
        pool: of the API role.
        batch: each memory once, in ascending id.

    Raises:
        UnavailableError: Postgres cannot be reached; nothing was counted.
    """
    workspaces = [one.workspace for one in batch]
    async with about(pool, set(workspaces)) as connection:
        rows = await connection.fetch(
            statement("access", "count"),
            workspaces,
            [one.id for one in batch],
            [one.hits for one in batch],
            [one.at for one in batch],
        )
        done = {(row["id"], row["workspace"]) for row in rows}
        left = [one for one in batch if one.key not in done]
        if not left:
            return []
        there = await connection.fetch(
            statement("access", "there"), [one.workspace for one in left], [one.id for one in left]
        )
        waiting = {(row["id"], row["workspace"]) for row in there}
    return [one for one in left if one.key in waiting]
