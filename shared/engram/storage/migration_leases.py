"""Who works on a migration, and which spaces others leave to it meanwhile."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import statement


async def claim(connection: Connection, holder: UUID, lease: timedelta) -> UUID | None:
    """Claim a migration that has something to do; what the holder has already is extended."""
    found: UUID | None = await connection.fetchval(statement("migrating", "claim"), holder, lease)
    return found


async def extend(
    connection: Connection, migration_id: UUID, holder: UUID, lease: timedelta
) -> bool:
    """Keep a claim; False when it was lost."""
    sql = statement("migrating", "extend")
    return await connection.fetchval(sql, migration_id, holder, lease) is not None


async def give_back(connection: Connection, migration_id: UUID, holder: UUID) -> None:
    """End a claim at once, so that another migrator may go on."""
    await connection.execute(statement("migrating", "give_back"), migration_id, holder)


async def loading(connection: Connection) -> set[int]:
    """Return the spaces whose indexes are built later: their backfill is still loading them."""
    rows = await connection.fetch(statement("migrating", "loading"))
    return {row["target_space"] for row in rows}


async def filling(connection: Connection) -> set[int]:
    """Return the spaces whose missing vectors a backfill finds."""
    rows = await connection.fetch(statement("migrating", "filling"))
    return {row["target_space"] for row in rows}
