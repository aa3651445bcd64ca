"""Adapters in the database: the pairs they are fitted on, themselves, and what they make."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from engram.domain.adapter import MAX_PAIRS, Adapter, Measured
from engram.domain.vectors import Matrix
from engram.storage.connection import Connection
from engram.storage.queries import statement, vector_table

Place = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class Between:
    """The two spaces of a migration, by id."""

    source: int
    target: int

    def sql(self, name: str) -> str:
        """Return a statement of ``adapt.sql`` over their two tables."""
        sql = statement("adapt", name).replace("{source}", vector_table(self.source))
        return sql.replace("{target}", vector_table(self.target))


@dataclass(frozen=True, slots=True)
class Unmapped:
    """One page of old vectors that have nothing current in the new space.

    Attributes:
        last: the ``seq`` after which the next page begins.
        ids: of the memories; versions: theirs; vectors: (n, old dimensions).
    """

    last: int
    ids: list[UUID]
    versions: list[int]
    vectors: NDArray[np.float16]


async def pairs_waiting(connection: Connection, between: Between) -> int:
    """Return how many memories may make a pair, at most ``MAX_PAIRS``."""
    return int(await connection.fetchval(between.sql("how_many"), MAX_PAIRS))


async def pairs(
    connection: Connection, between: Between
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Return vectors of the same texts in the old and the new space, in random order."""
    rows = await connection.fetch(between.sql("pairs"), MAX_PAIRS)
    return _stacked([row["old"] for row in rows]), _stacked([row["new"] for row in rows])


async def sample(
    connection: Connection,
    between: Between,
    workspaces: Sequence[UUID] | None,
    rows: int,
    limit: int,
) -> list[tuple[UUID, UUID]]:
    """Return about ``limit`` memories, drawn by chance, that could become pairs.

    Args:
        connection: of the worker role.
        between: the spaces.
        workspaces: whose, None for all.
        rows: how many memories there are, about.
        limit: most returned.
    """
    percent = min(100.0, 120.0 * limit / max(rows, 1))
    listed = None if workspaces is None else list(workspaces)
    found = await connection.fetch(between.sql("sample"), percent, listed, limit)
    return [(row["workspace"], row["id"]) for row in found]


async def keep(
    connection: Connection, migration: UUID, adapter: Adapter, measured: Measured
) -> None:
    """Store what was fitted; the first one stays."""
    rows, columns = adapter.matrix.shape
    parts = (adapter.matrix, adapter.source_mean, adapter.target_mean)
    weights = b"".join(part.astype("<f4").tobytes() for part in parts)
    await connection.execute(
        statement("adapt", "keep"),
        *(migration, adapter.kind, adapter.penalty, rows, columns, weights, asdict(measured)),
        measured.is_worth_reading,
    )


async def find(connection: Connection, migration: UUID) -> tuple[Adapter, bool] | None:
    """Return the adapter of a migration and whether it is worth reading; None before the fit."""
    row = await connection.fetchrow(statement("adapt", "find"), migration)
    if row is None:
        return None
    rows, columns = row["source_dimensions"], row["target_dimensions"]
    numbers: Matrix = np.frombuffer(row["weights"], dtype="<f4")
    matrix, means = numbers[: rows * columns].reshape(rows, columns), numbers[rows * columns :]
    adapter = Adapter(row["kind"], row["penalty"], matrix, means[:rows], means[rows:])
    return adapter, row["worth_reading"]


async def judged(connection: Connection, migration: UUID) -> dict[str, Any] | None:
    """Return what a person is told of an adapter: its kind and how it was measured."""
    row = await connection.fetchrow(statement("adapt", "judged"), migration)
    if row is None:
        return None
    measured = {name: round(value, 4) for name, value in row["measured"].items()}
    return {"kind": row["kind"], "worth_reading": row["worth_reading"], **measured}


async def open_places(
    connection: Connection, migration: UUID, between: Between, limit: int
) -> list[Place]:
    """Return namespaces whose backfill goes on and that still read the old space."""
    rows = await connection.fetch(statement("adapt", "open"), migration, between.source, limit)
    return [(row["workspace"], row["namespace"]) for row in rows]


async def unmapped(
    connection: Connection, between: Between, place: Place, after: int, limit: int
) -> Unmapped | None:
    """Return the next page of what has no vector of its text in the new space, None at the end."""
    rows = await connection.fetch(between.sql("page"), *place, after, limit)
    if not rows:
        return None
    vectors = _stacked([row["embedding"] for row in rows])
    ids, versions = [row["memory_id"] for row in rows], [row["version"] for row in rows]
    return Unmapped(rows[-1]["seq"], ids, versions, vectors)


async def store_mapped(
    connection: Connection, between: Between, workspace: UUID, page: Unmapped, mapped: Matrix
) -> int:
    """Write mapped vectors of what has not changed meanwhile; return how many were taken.

    Args:
        connection: in a transaction of the worker role.
        between: the spaces.
        workspace: of the memories.
        page: what was mapped.
        mapped: (n, new dimensions) in the page's order.
    """
    halves = np.asarray(mapped, dtype=">f2")
    encoded = [HalfVector(half) for half in halves]
    arguments = (workspace, page.ids, page.versions, encoded, between.target)
    return len(await connection.fetch(between.sql("store"), *arguments))


async def standing(connection: Connection, migration: UUID, between: Between) -> tuple[int, int]:
    """Return how many adapted vectors there are, and how many namespaces read through them."""
    row = await connection.fetchrow(between.sql("standing"), migration, between.target)
    return (0, 0) if row is None else (row["adapted"], row["early"])


def _stacked(vectors: Sequence[HalfVector]) -> NDArray[np.float16]:
    if not vectors:
        return np.empty((0, 0), dtype=np.float16)
    return np.stack([vector.to_numpy() for vector in vectors])
