"""Reconcile's side of the store: how vectors differ from live memories, and the repairs."""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement, vector_table

Kind = Literal["missing", "stale", "orphan", "dimension", "norm"]
KINDS: tuple[Kind, ...] = ("missing", "stale", "orphan", "dimension", "norm")

# Memories younger than this are on their way through the event stream.
GRACE = timedelta(seconds=30)

# A second for a million memories on a warm cache; a cold disk and ten millions have to fit too.
_SCAN_TIMEOUT_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Difference:
    """What is wrong about one memory in one space.

    Attributes:
        version: of the live memory, None if there is none.
        vector_version: of the vector, None if there is none.
        kind: ``missing``, ``stale`` (a vector of another version), ``orphan`` (of no live memory),
            ``dimension`` (of another length than the space's) or ``norm`` (zero or not finite).
        age_s: since the memory has this version, 0 for an orphan.
    """

    workspace: UUID
    id: UUID
    version: int | None
    vector_version: int | None
    kind: Kind
    age_s: float

    @classmethod
    def missing(cls, workspace: UUID, memory_id: UUID, version: int) -> "Difference":
        """Return that a live memory has no vector of its version, since a moment ago."""
        return cls(workspace, memory_id, version, None, "missing", 0.0)

    @property
    def must_go(self) -> bool:
        """The vector has to be deleted first: no guarded write would replace it."""
        if self.vector_version is None:
            return False
        ahead = self.version is not None and self.vector_version > self.version
        return ahead or self.kind in ("orphan", "dimension", "norm")


@contextlib.asynccontextmanager
async def differing(
    connection: Connection,
    space: int,
    dimensions: int,
    checked_seq: int,
    workspaces: Collection[UUID] | None = None,
    is_filling: bool = False,
) -> AsyncIterator[AsyncIterator[list[Difference]]]:
    """Compare live memories and vectors of a space in one snapshot; read the outcome in pages.

    The server keeps the outcome, so any number of differences fits; the snapshot is gone by then.

    Args:
        connection: of the worker role, outside a transaction, the caller's until the end.
        space: id of the space.
        dimensions: the length vectors must have.
        checked_seq: vectors up to this ``seq`` were found good before and are not read again.
        workspaces: whose memories belong in the space, None for everybody's.
        is_filling: a backfill looks for what is missing, so that is not looked for here.
    """
    await connection.execute(statement("reconcile", "plan"))
    await connection.execute(
        over_vectors("reconcile", "differ", space),
        *(space, dimensions, checked_seq, GRACE, workspaces, is_filling),
        timeout=_SCAN_TIMEOUT_S,
    )
    try:
        yield _pages(connection)
    finally:
        await connection.execute(statement("reconcile", "close"))


async def _pages(connection: Connection) -> AsyncIterator[list[Difference]]:
    while rows := await connection.fetch(statement("reconcile", "next")):
        yield [Difference(*row) for row in rows]


async def newest_seq(connection: Connection, space: int) -> int:
    """Return the highest ``seq`` of a space's vectors, 0 when there is none."""
    return int(await connection.fetchval(over_vectors("reconcile", "newest", space)))


async def count_vectors(connection: Connection, space: int) -> int:
    """Return how many vectors a space has."""
    return int(await connection.fetchval(over_vectors("reconcile", "count", space)))


async def column_dimensions(connection: Connection, space: int) -> int | None:
    """Return the length a vector table's column takes; None when it takes any."""
    declared = await connection.fetchval(statement("reconcile", "column"), vector_table(space))
    return declared if declared is not None and declared > 0 else None


async def drop_vectors(
    connection: Connection, space: int, dimensions: int, found: Sequence[Difference]
) -> int:
    """Delete vectors that still are what was found, by id and version; return how many.

    Args:
        connection: in a READ COMMITTED transaction of the worker role.
        space: id of the space.
        dimensions: the length vectors must have.
        found: differences whose vector must go, each memory at most once.
    """
    keys = [d.workspace for d in found], [d.id for d in found]
    await connection.execute(statement("reconcile", "lock"), *keys)
    done = await connection.execute(
        over_vectors("reconcile", "drop", space),
        *(*keys, [d.vector_version for d in found], dimensions),
    )
    return _count(done)


async def make_due(connection: Connection, space: int, found: Sequence[Difference]) -> int:
    """Make live memories without a current vector due for the embedder; return how many.

    A failure of the memory's version, waiting, dead or discarded, stays as it is.
    """
    done = await connection.execute(
        over_vectors("reconcile", "due", space),
        [d.workspace for d in found],
        [d.id for d in found],
        [d.version for d in found],
        [d.kind for d in found],
        space,
    )
    return _count(done)


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[1])
