"""Counts of a workspace, always from the tables themselves."""

from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement
from engram.storage.spaces import all_spaces


async def by_state(connection: Connection, workspace: UUID) -> dict[str, int]:
    """Return how many memories are in each state; states without any are absent."""
    rows = await connection.fetch(statement("memory", "counts"), workspace)
    return {row["state"]: row["memories"] for row in rows}


async def by_space(connection: Connection, workspace: UUID) -> dict[str, dict[str, int]]:
    """Return those counts of every space that the workspace's memories belong in, by its key."""
    return {
        space.spec.key: await vectors(connection, workspace, space.id)
        for space in await all_spaces(connection)
        if space.active and space.holds(workspace)
    }


async def vectors(connection: Connection, workspace: UUID, space: int) -> dict[str, int]:
    """Return how many active memories are current, pending and dead in a space."""
    sql = over_vectors("memory", "vector_counts", space)
    [row] = await connection.fetch(sql, workspace, space)
    return {"current": row["current"], "pending": row["pending"], "dead": row["dead"]}
