"""The roles of the database: who may do what before any row-level policy is asked."""

import asyncpg

from engram.storage.connection import OwnConnection

# engram_api answers requests under row-level security by workspace; engram_worker runs the
# services' own work under policies of its own; engram_vec owns the vector tables and nothing else.
ROLES = ("engram_api", "engram_worker", "engram_vec")


async def ensure_roles(connection: OwnConnection) -> None:
    """Create the roles that are missing and let the login take them.

    Roles belong to the whole server, so another database may be creating them at this moment:
    "already exists" is success.
    """
    for role in ROLES:
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            await _create(connection, role)
        await connection.execute(f"GRANT {role} TO CURRENT_USER WITH SET TRUE, INHERIT FALSE")


async def _create(connection: OwnConnection, role: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"CREATE ROLE {role} NOLOGIN NOINHERIT NOBYPASSRLS")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return
