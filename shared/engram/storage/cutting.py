"""Pointers that move: the fence around namespaces, the flip, and defaults of workspaces.

A store never writes into a marked namespace of a fenced space (embed.sql), so what a flip has
checked stays true until it is done. Pairs are (workspace, namespace).
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from engram.storage import reconciling
from engram.storage.connection import CONTENDED, Connection, Pool
from engram.storage.queries import statement, vector_table
from engram.storage.reconciling import Difference

T = TypeVar("T")
Act: TypeAlias = Callable[[Connection], Awaitable[T]]
Name = tuple[UUID, str]
Seqs = dict[Name, int]
_FIRST: Name = (UUID(int=0), "")
# Writers hold a namespace for milliseconds; whoever is frozen holds it for ten seconds.
_LOCK_TIMEOUT = "2s"
_CHECK_TIMEOUT_S = 1_800.0
_WAITED_FOR = (asyncpg.LockNotAvailableError, *CONTENDED)


class HeldError(Exception):
    """Somebody else holds what is to be changed; nothing was changed, try again."""


@dataclass(frozen=True, slots=True)
class Way:
    """From which space to which a pointer moves, by id."""

    old: int
    new: int

    def sql(self, name: str) -> str:
        """Return a statement of ``cutting.sql`` over the two tables."""
        sql = statement("cutting", name).replace("{lacking_of}", statement("cutting", "lacking_of"))
        return sql.replace("{old}", vector_table(self.old)).replace("{new}", vector_table(self.new))


@dataclass(frozen=True, slots=True)
class Flip:
    """What came of one namespace.

    Attributes:
        missing: live current vectors of the old space that the new one lacked.
        flipped: the new space is read now.
    """

    name: Name
    missing: int
    flipped: bool


@contextlib.asynccontextmanager
async def impatient(pool: Pool) -> AsyncIterator[Connection]:
    """Take a connection that waits for no lock for long.

    Raises:
        HeldError: somebody holds what a statement inside needs.
    """
    try:
        async with pool.acquire() as connection:
            # The pool resets it.
            await connection.execute("SELECT set_config('lock_timeout', $1, false)", _LOCK_TIMEOUT)
            yield connection
    except _WAITED_FOR as error:
        raise HeldError from error


def _listed(names: Sequence[Name]) -> tuple[list[UUID], list[str]]:
    return [workspace for workspace, _ in names], [name for _, name in names]


def _named(rows: Sequence[asyncpg.Record]) -> list[Name]:
    return [(row["workspace"], row["name"]) for row in rows]


async def page(
    connection: Connection,
    migration: UUID,
    old: int,
    workspaces: Sequence[UUID] | None,
    after: Name | None,
    limit: int,
) -> list[Name]:
    """Return the next namespaces that a cutover from ``old`` has to do with."""
    sql = statement("cutting", "page")
    rows = await connection.fetch(sql, migration, old, workspaces, *(after or _FIRST), limit)
    return _named(rows)


async def overridden(
    connection: Connection,
    space: int,
    workspaces: Sequence[UUID] | None,
    after: Name | None,
    limit: int,
) -> list[Name]:
    """Return the next namespaces that read a space other than by default."""
    sql = statement("cutting", "overridden")
    return _named(await connection.fetch(sql, space, workspaces, *(after or _FIRST), limit))


async def known(connection: Connection, names: Sequence[Name]) -> list[Name]:
    """Return which of these namespaces there are."""
    return _named(await connection.fetch(statement("cutting", "known"), *_listed(names)))


async def defaulting(
    connection: Connection,
    space: int,
    workspaces: Sequence[UUID] | None,
    after: UUID | None,
    limit: int,
) -> list[UUID]:
    """Return the next workspaces whose default is a space."""
    sql = statement("cutting", "workspaces")
    rows = await connection.fetch(sql, space, workspaces, after or _FIRST[0], limit)
    return [row["id"] for row in rows]


async def mark(connection: Connection, names: Sequence[Name]) -> None:
    """Mark namespaces as being cut over; it counts from the next `fence` on."""
    await connection.execute(statement("cutting", "mark"), *_listed(sorted(names)))


async def fence(connection: Connection, space: int, lasting: timedelta) -> bool:
    """Keep stores out of the marked namespaces of a space for a while.

    Returns when nobody stores there who does not know of the marks. Without marks, or with no
    time, it only waits for the stores under way.

    Returns:
        False when the space is retired or gone.
    """
    sql = statement("cutting", "fence")
    return await connection.fetchval(sql, space, lasting) is not None


async def unfence(connection: Connection, space: int) -> None:
    """Let stores into a space again before its fence would end by itself."""
    await connection.execute(statement("cutting", "unfence"), space)


async def newest(connection: Connection, way: Way, names: Sequence[Name]) -> Seqs:
    """Return the newest ``seq`` of each namespace in the old space."""
    return _seqs(await connection.fetch(way.sql("newest"), *_listed(names)))


async def tail(connection: Connection, way: Way, names: Sequence[Name], count: int) -> Seqs:
    """Return the ``seq`` below the newest ``count`` vectors of each namespace."""
    return _seqs(await connection.fetch(way.sql("tail"), *_listed(names), count))


def _seqs(rows: Sequence[asyncpg.Record]) -> Seqs:
    return {(row["workspace"], row["name"]): row["seq"] for row in rows}


async def lacking(
    connection: Connection, way: Way, after: Mapping[Name, int]
) -> dict[Name, tuple[int, int | None]]:
    """Return what the new space lacks of each namespace above a ``seq`` of the old one.

    Returns:
        How many live current vectors, and the lowest ``seq`` of them.
    """
    names = list(after)
    rows = await connection.fetch(
        way.sql("lacking"), *_listed(names), [after[name] for name in names],
        timeout=_CHECK_TIMEOUT_S,
    )  # fmt: skip
    return {(row["workspace"], row["name"]): (row["missing"], row["first_seq"]) for row in rows}


async def hurry(connection: Connection, way: Way, after: Mapping[Name, int], limit: int) -> int:
    """Make due for the new space's embedder what that space lacks, and return how many.

    The bell of a memory may be with an embedder that was killed, and is rung again only when its
    time is up. Whatever is due or has failed already stays as it is.
    """
    names = list(after)
    rows = await connection.fetch(
        way.sql("lacking_ids"), *_listed(names), [after[name] for name in names], limit
    )
    lacking = [(row["workspace"], row["id"], row["version"]) for row in rows]
    return await reconciling.make_due(
        connection, way.new, [Difference.missing(*one) for one in lacking]
    )


async def flip(
    connection: Connection,
    way: Way,
    after: Mapping[Name, int],
    *,
    migration: UUID,
    state: str | None,
    force: bool = False,
) -> list[Flip]:
    """Let marked namespaces read the new space, those that lose nothing by it, and lift the mark.

    Args:
        connection: not in a transaction: the statement is one.
        way: between which spaces.
        after: for each namespace the ``seq`` of the old space up to which nothing is missing.
        migration: whose record is told.
        state: what the record says of them then; None says nothing.
        force: flip what is behind too, and whatever the fence says.
    """
    names = sorted(after)
    rows = await connection.fetch(
        way.sql("flip"), way.old, way.new, *_listed(names), [after[name] for name in names],
        migration, state, force,
    )  # fmt: skip
    return [Flip((row["workspace"], row["name"]), row["missing"], row["flipped"]) for row in rows]


async def lift(connection: Connection, names: Sequence[Name] | None = None) -> None:
    """Take marks away, from all namespaces when none are named."""
    if names is None:
        await connection.execute(statement("cutting", "lift_all"))
    else:
        await connection.execute(statement("cutting", "lift"), *_listed(sorted(names)))


async def wake(connection: Connection, space: int) -> None:
    """Make due what was deferred because of a fence."""
    await connection.execute(statement("cutting", "wake"), space)


async def hold(connection: Connection, way: Way) -> bool:
    """Keep everybody from storing in the old space and from retiring the new one, until commit.

    Returns:
        False when the new space is retired or gone.
    """
    await connection.execute(statement("cutting", "hold"), way.old)
    return await is_open(connection, way.new)


async def is_open(connection: Connection, space: int) -> bool:
    """Say whether a space takes vectors; it does until the transaction ends."""
    return await connection.fetchval(statement("cutting", "open"), space) is not None


async def move_defaults(
    connection: Connection,
    way: Way,
    workspaces: Sequence[UUID],
    tail: int,
    *,
    force: bool = False,
) -> list[UUID]:
    """Let workspaces read the new space by default, those that lose nothing by it; return them.

    Args:
        connection: in a transaction that has called `hold`.
        way: between which spaces.
        workspaces: some that read the old one by default.
        tail: so many of the newest vectors of each namespace are looked at.
        force: whatever they lack.
    """
    rows = await connection.fetch(
        way.sql("move_defaults"), way.old, way.new, list(workspaces), tail, force
    )
    return [row["id"] for row in rows]


async def clear_overrides(connection: Connection, space: int, limit: int) -> int:
    """Clear some overrides onto a space that is the default as well; return how many."""
    done = await connection.execute(statement("cutting", "clear_overrides"), space, limit)
    return int(done.rpartition(" ")[2])


async def note_back(connection: Connection, migration: UUID, old: int) -> None:
    """Write down which namespaces read the old space again."""
    await connection.execute(statement("cutting", "back"), migration, old)
