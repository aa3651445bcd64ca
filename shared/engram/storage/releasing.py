"""The end of a space: who still reads it, that nobody may store in it, and that its table goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement

# Short: whoever waits for a table to himself keeps all others waiting behind him.
_DROP_LOCK_TIMEOUT = "300ms"


@dataclass(frozen=True, slots=True)
class Readers:
    """What reads a space.

    Attributes:
        namespaces: that read it, by themselves or by default.
        workspaces: whose default it is.
        strangers: of them, those that do not belong to the migration.
        comparisons: namespaces that a dedup run still compares in it.
        migrations: others that are under way from it or to it.
    """

    namespaces: int
    workspaces: int
    strangers: int
    comparisons: int
    migrations: int

    @property
    def anything(self) -> bool:
        """Something does."""
        return bool(self.namespaces + self.workspaces + self.comparisons + self.migrations)


async def readers(
    connection: Connection, space: int, migration: UUID, workspaces: Sequence[UUID] | None
) -> Readers:
    """Return what reads a space; a migration of these workspaces is not counted itself."""
    row = await connection.fetchrow(statement("cutting", "readers"), space, migration, workspaces)
    return Readers(**dict(row or {}))


async def state(connection: Connection, space: int) -> str | None:
    """Return ``active`` or ``retired``; None when there is no such space."""
    found: str | None = await connection.fetchval(statement("cutting", "state"), space)
    return found


async def retire(
    connection: Connection, space: int, migration: UUID, workspaces: Sequence[UUID] | None
) -> Readers:
    """Retire a space unless something reads it; from the commit on every store refuses.

    Args:
        connection: in a transaction: nobody comes to read the space until it ends.
        space: id of the space.
        migration: that releases it.
        workspaces: of the migration.

    Returns:
        Who reads it. If anything does, nothing was changed.
    """
    await connection.execute(statement("cutting", "hold"), space)
    found = await readers(connection, space, migration, workspaces)
    if not found.anything:
        await connection.execute(statement("cutting", "retire"), space)
        await connection.execute("NOTIFY engram_spaces")
    return found


async def drop(connection: Connection, space: int) -> None:
    """Drop the table of a retired space, and everything that names the space.

    Args:
        connection: in a transaction of a login that may take engram_worker and engram_vec.
        space: id of the space.

    Raises:
        asyncpg.LockNotAvailableError: somebody uses the table at this moment.
    """
    # Whoever still writes failures or batches of the space does so before the table is ours.
    await connection.execute("SELECT set_config('lock_timeout', $1, true)", _DROP_LOCK_TIMEOUT)
    await connection.execute("SET LOCAL ROLE engram_vec")
    await connection.execute(over_vectors("cutting", "drop_table", space))
    await connection.execute("SET LOCAL ROLE engram_worker")
    for name in ("forget_failures", "forget_batches", "forget_space"):
        await connection.execute(statement("cutting", name), space)
    await connection.execute("NOTIFY engram_spaces")
