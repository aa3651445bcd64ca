"""How the database stands: what a service must know of it to say that it is ready."""

from dataclasses import dataclass

from engram.storage.connection import Connection
from engram.storage.migrate import current_version
from engram.storage.queries import statement
from engram.storage.roles import ROLES


@dataclass(frozen=True, slots=True)
class Standing:
    """One look at the database.

    Attributes:
        schema_version: 0 when there is no schema.
        read_only: it takes no writes: a standby, or switched off.
        unbound_roles: roles of ours that row-level security does not bind.
        unbound_login: who logged in is not bound by it either.
        wrong_dimensions: keys of spaces whose table holds vectors of another length.
    """

    schema_version: int
    read_only: bool = False
    unbound_roles: tuple[str, ...] = ()
    unbound_login: bool = False
    wrong_dimensions: tuple[str, ...] = ()


async def look(connection: Connection) -> Standing:
    """Return how the database stands now."""
    if not await current_version(connection):
        return Standing(0)
    [row] = await connection.fetch(statement("standing", "store"), list(ROLES))
    wrong = await connection.fetch(statement("standing", "dimensions"))
    return Standing(
        row["schema_version"],
        row["read_only"],
        tuple(row["unbound_roles"]),
        bool(row["unbound_login"]),
        tuple(one["key"] for one in wrong),
    )
