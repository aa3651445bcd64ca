"""The vectors that the dedup sweep compares: all of some namespaces, or what is near new ones."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors

Take = Callable[[bytes], Coroutine[Any, Any, None]]
# A namespace of millions is one statement.
_READ_TIMEOUT_S: Final = 1_800.0


@dataclass(frozen=True, slots=True)
class Where:
    """Namespaces of one workspace and space.

    Attributes:
        names: in the order wanted; places count from 1.
        compared: for each, the ``seq`` up to which pairs were compared.
    """

    workspace: UUID
    space: int
    names: Sequence[str]
    compared: Sequence[int]


@dataclass(frozen=True, slots=True)
class ScopeSize:
    """Live vectors of one namespace with the same owner ids.

    Attributes:
        place: of the namespace.
        owner: digest of the owner ids, as the streams give it.
        fresh: how many of the rows were not compared yet.
    """

    place: int
    owner: UUID
    rows: int
    fresh: int


async def stream_vectors(
    connection: Connection, workspace: UUID, space: int, namespaces: Sequence[str], take: Take
) -> None:
    """Send the live vectors of some namespaces, one after another, in the binary form of COPY.

    The fields of a row: place of the namespace from 1 on (int4), digest of the owner ids (uuid), id
    (uuid), version (int4), seq (int8), embedding (halfvec). Nothing is kept here.

    Args:
        connection: of the worker role.
        workspace: whose.
        space: id of the space.
        namespaces: which, in the order wanted.
        take: given each part as it comes.
    """
    sql = over_vectors("dedup", "vectors", space)
    await connection.copy_from_query(
        sql, workspace, list(namespaces), output=take, format="binary", timeout=_READ_TIMEOUT_S
    )


async def stream_near(
    connection: Connection, where: Where, reaches: Sequence[float], take: Take
) -> None:
    """Send, as `stream_vectors` does, only those vectors that are near one not compared yet.

    Args:
        connection: of the worker role.
        where: the namespaces.
        reaches: for each, the largest distance by ``<=>`` that is near; `choice.reach`.
        take: given each part as it comes.
    """
    given = where.workspace, list(where.names), list(where.compared), list(reaches)
    sql = over_vectors("dedup", "near_vectors", where.space)
    await connection.copy_from_query(
        sql, *given, output=take, format="binary", timeout=_READ_TIMEOUT_S
    )


async def fresh_counts(connection: Connection, where: Where) -> list[int]:
    """Return how many vectors of each namespace were not compared yet."""
    sql = over_vectors("dedup", "fresh_counts", where.space)
    given = where.workspace, list(where.names), list(where.compared)
    rows = await connection.fetch(sql, *given, timeout=_READ_TIMEOUT_S)
    return [row["fresh"] for row in rows]


async def scope_sizes(connection: Connection, where: Where) -> list[ScopeSize]:
    """Return how many live vectors each scope of the namespaces has."""
    sql = over_vectors("dedup", "scope_sizes", where.space)
    given = where.workspace, list(where.names), list(where.compared)
    rows = await connection.fetch(sql, *given, timeout=_READ_TIMEOUT_S)
    return [ScopeSize(*row) for row in rows]
