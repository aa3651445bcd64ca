"""What the migrator has still to do for a migration, and why it cannot."""

from typing import Any
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.migrating import Migration, tell
from engram.storage.queries import statement


async def make_wish(connection: Connection, migration: Migration, wish: dict[str, Any]) -> None:
    """Leave something for the migrator to do; an error of before is forgotten. Audited."""
    await connection.execute(statement("migrating", "wish"), migration.id, wish)
    counts = {"verb": wish["verb"]}
    await tell(connection, migration, "asked", wish["actor"], counts)


async def fulfil(
    connection: Connection, migration: Migration, error: dict[str, Any] | None = None
) -> None:
    """Clear the wish that was done, or could not be done; one made meanwhile stays."""
    if migration.wish is not None:
        sql = statement("migrating", "fulfil")
        await connection.execute(sql, migration.id, migration.wish["at"], error)


async def note_error(
    connection: Connection, migration_id: UUID, error: dict[str, Any] | None
) -> None:
    """Keep why the migrator cannot go on, or that it can."""
    await connection.execute(statement("migrating", "fail"), migration_id, error)
