"""Spaces in the database: their rows, their vector tables, and who reads which."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from engram.domain.spaces import SpaceSpec
from engram.errors import UnavailableError, UsageError
from engram.storage.connection import Connection
from engram.storage.queries import statement, vector_table

MAX_SPACES = 8


@dataclass(frozen=True, slots=True)
class Space:
    """One space as stored.

    Attributes:
        id: 1 to 8; the vectors are in ``engram_vec.space_<id>``.
        active: vectors may be written.
        model_number: of the model that embeds now; 0 is the space's own (``storage/models``).
        embeds_with: its name.
        workspaces: whose memories belong in it, None for everybody's.
    """

    id: int
    spec: SpaceSpec
    active: bool
    model_number: int = 0
    embeds_with: str = ""
    workspaces: frozenset[UUID] | None = None

    def holds(self, workspace: UUID) -> bool:
        """Whether this workspace's memories belong in the space."""
        return self.workspaces is None or workspace in self.workspaces


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
    active = row["state"] == "active"
    chosen = None if row["workspaces"] is None else frozenset(row["workspaces"])
    model = row["embeds_with"], row["embeds_with_model"]
    return Space(row["id"], spec, active, *model, workspaces=chosen)


async def create_space(
    connection: Connection,
    spec: SpaceSpec,
    *,
    deterministic: bool,
    workspaces: Sequence[UUID] | None = None,
    before: Callable[[int], Awaitable[None]] | None = None,
) -> Space:
    """Create a space and its vector table; an existing one is returned as it is.

    Args:
        connection: of a login that may take engram_worker and engram_vec.
        spec: what tells this space from every other.
        deterministic: the same text gave the same vector twice when the provider was probed.
        workspaces: whose memories belong in it, None for everybody's.
        before: awaited with the id of a new space before anybody can see the space.

    Raises:
        UsageError: there are eight spaces already, or the same key means another space.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('engram.space'))")
        spaces = await all_spaces(connection)
        for space in spaces:
            if space.spec == spec:
                return space
        newest = await connection.fetchval(statement("space", "newest"))
        space_id = _free_id(spaces, newest or 0)
        # fmt: off
        await connection.execute("SET LOCAL ROLE engram_worker")
        await connection.execute(
            statement("space", "insert"), space_id, spec.key, spec.provider, spec.model,
            spec.dimensions, spec.dtype, spec.input_type, spec.normalised, spec.template,
            deterministic, None if workspaces is None else list(workspaces),
        )
        # fmt: on
        await connection.execute("SET LOCAL ROLE engram_vec")
        await connection.execute(_table_sql(space_id, spec.dimensions))
        await connection.execute("SET LOCAL ROLE engram_worker")
        await connection.execute("NOTIFY engram_spaces")
        if before is not None:
            await before(space_id)
    chosen = None if workspaces is None else frozenset(workspaces)
    return Space(space_id, spec, active=True, embeds_with=spec.model, workspaces=chosen)


async def widen(connection: Connection, space: int, workspaces: Sequence[UUID] | None) -> None:
    """Let these workspaces' memories, or everybody's, belong in a space too."""
    chosen = None if workspaces is None else list(workspaces)
    await connection.execute(statement("space", "widen"), space, chosen)


def _free_id(spaces: list[Space], newest: int) -> int:
    """Return the next id in turn: whoever still thinks of a space that is gone meets none."""
    used = {space.id for space in spaces}
    turn = [(newest + step) % MAX_SPACES + 1 for step in range(MAX_SPACES)]
    free = [number for number in turn if number not in used]
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
