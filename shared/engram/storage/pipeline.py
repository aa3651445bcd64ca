"""How far everything is, from outbox to vectors, read cheaply enough to be watched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement
from engram.storage.sweeps import Sweep, list_sweeps

# Tables above it are told by the planner's estimate; counting this many rows takes 20 ms.
_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Stages:
    """Rows as of ``sql/pipeline.sql``.

    Attributes:
        vectors: rows in the vector table of each space, by its id.
    """

    memories: asyncpg.Record
    outbox: asyncpg.Record
    spaces: Sequence[dict[str, Any]]
    vectors: dict[int, int]
    failures: Sequence[asyncpg.Record]
    budgets: Sequence[asyncpg.Record]
    letters: Sequence[asyncpg.Record]
    sweeps: Sequence[Sweep]


async def stages(connection: Connection) -> Stages:
    """Return how the pipeline stands, over all workspaces."""

    async def rows(name: str, *arguments: object) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await connection.fetch(
            statement("pipeline", name), *arguments
        )
        return found

    [memories], [outbox] = await rows("memories", _COUNTED), await rows("outbox")
    spaces = [dict(row) for row in await rows("spaces")]
    vectors = {row["id"]: await _vectors(connection, row) for row in spaces}
    return Stages(
        memories,
        outbox,
        spaces,
        vectors,
        await rows("failures"),
        await rows("budgets"),
        await rows("letters"),
        await list_sweeps(connection),
    )


async def _vectors(connection: Connection, row: dict[str, Any]) -> int:
    if row["estimate"] > _COUNTED:
        return int(row["estimate"])
    return int(
        await connection.fetchval(over_vectors("pipeline", "vectors", row["id"]), 10 * _COUNTED)
    )
