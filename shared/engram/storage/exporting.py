"""Reads every memory of a workspace in pages, each a short transaction of its caller's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read.

    Attributes:
        workspace: of which.
        states: in which.
        namespace: None for all.
        last: the highest id that is read; what is stored later lies above it.
    """

    workspace: UUID
    states: Sequence[str]
    namespace: str | None
    last: UUID


async def last_id(connection: Connection, workspace: UUID, namespace: str | None) -> UUID | None:
    """Return the highest id there is now, None when there is no memory."""
    found: UUID | None = await connection.fetchval(
        statement("export", "last_id"), workspace, namespace
    )
    return found


async def page(connection: Connection, selection: Selection, after: UUID, limit: int) -> list[Row]:
    """Return up to ``limit`` memories with an id above ``after``, in order of id."""
    rows = await connection.fetch(
        statement("export", "page"),
        *(selection.workspace, after, selection.last),
        *(list(selection.states), selection.namespace, limit),
    )
    return [dict(row) for row in rows]


async def with_embedded(
    connection: Connection, workspace: UUID, rows: Sequence[Row], space: int
) -> list[Row]:
    """Return the rows, each with ``embedded``: whether it has a current vector in a space."""
    sql = over_vectors("export", "current", space)
    found = await connection.fetch(sql, workspace, [row["id"] for row in rows])
    current = {row["id"] for row in found}
    return [{**row, "embedded": row["id"] in current} for row in rows]
