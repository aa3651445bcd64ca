"""Spaces in the database: their rows, their vector tables, and who reads which."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from engram.domain.spaces import SpaceSpec
from engram.errors import UnavailableError, UsageError
from engram.storage.connection import Connection, OwnConnection
from engram.storage.queries import statement, vector_table

MAX_SPACES = 8


@dataclass(frozen=True, slots=True)
class Space:
    """One space as stored.

    Attributes:
        id: 1 to 8; the vectors are in ``engram_vec.space_<id>``.
        active: vectors may be written.
    """

    id: int
    spec: SpaceSpec
    active: bool


async def all_spaces(connection: Connection) -> list[Space]:
    """Return every space, by id."""
    return [_space(row) for row in await connection.fetch(statement("space", "all"))]


def _space(row: asyncpg.Record) -> Space:
    spec = SpaceSpec(
        provider=row["provider"],
        model=row["model"],
        dimensions=row["dimensions"],
        dtype=row["dtype"],
        input_type=row["input_type"],
        normalised=row["normalised"],
        template=row["template"],
    )
    return Space(row["id"], spec, row["state"] == "active")


async def create_space(connection: OwnConnection, spec: SpaceSpec, *, deterministic: bool) -> Space:
    """Create a space and its vector table; an existing one is returned as it is.

    Args:
        connection: of a login that may take engram_worker and engram_vec.
        spec: what tells this space from every other.
        deterministic: the same text gave the same vector twice when the provider was probed.

    Raises:
        UsageError: there are eight spaces already, or the same key means another space.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('engram.space'))")
        spaces = await all_spaces(connection)
        for space in spaces:
            if space.spec == spec:
                return space
        space_id = _free_id(spaces)
        # fmt: off
        await connection.execute("SET LOCAL ROLE engram_worker")
        await connection.execute(
            statement("space", "insert"), space_id, spec.key, spec.provider, spec.model,
            spec.dimensions, spec.dtype, spec.input_type, spec.normalised, spec.template,
            deterministic,
        )
        # fmt: on
        await connection.execute("SET LOCAL ROLE engram_vec")
        await connection.execute(_table_sql(space_id, spec.dimensions))
        await connection.execute("SET LOCAL ROLE engram_worker")
        await connection.execute("NOTIFY engram_spaces")
        return Space(space_id, spec, active=True)


def _free_id(spaces: list[Space]) -> int:
    used = {space.id for space in spaces}
    free = [number for number in range(1, MAX_SPACES + 1) if number not in used]
    if not free:
        raise UsageError(
            "too_many_spaces",
            f"There are {MAX_SPACES} spaces already.",
            cure="Release a migration whose old space is no longer read.",
        )
    return free[0]


def _table_sql(space_id: int, dimensions: int) -> str:
    sql = statement("space", "table").replace("{vectors}", vector_table(space_id))
    return sql.replace("{dimensions}", str(int(dimensions)))


async def refuse_unguarded(connection: Connection) -> None:
    """Refuse to go on when a vector table lacks forced row-level security.

    Raises:
        UnavailableError: naming the tables.
    """
    names = [row["relname"] for row in await connection.fetch(statement("space", "unguarded"))]
    if names:
        raise UnavailableError(
            "unguarded_vectors",
            f"Vector tables without row-level security: {', '.join(names)}.",
            cure="They were not made by engram, or were changed by hand; restore their policies.",
        )


async def read_space(connection: Connection, workspace: UUID, namespace: str | None) -> int:
    """Return the space that answers for a namespace, or for a whole workspace when it is None."""
    row = await connection.fetchrow(statement("space", "pointers"), workspace, namespace)
    if row is None:
        raise UnavailableError("no_workspace", "The workspace is gone.", cure="Check the key.")
    return int(row["namespace_space"] or row["default_space"])
