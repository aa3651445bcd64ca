"""What a backup needs of Postgres: one moment to read from, and what every table held then."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from engram.errors import ConflictError, ForbiddenError, UnavailableError
from engram.storage.connection import OwnConnection, connect_owner, reachable
from engram.storage.migrate import current_version
from engram.storage.queries import statement
from engram.storage.roles import ensure_roles

Census = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Moment:
    """A store as it was at one moment; everything read from it belongs together.

    Attributes:
        connection: in a read-only transaction at that moment.
        snapshot: its name, for `pg_dump --snapshot`; good while the connection is open.
        schema_version: of engram's schema.
        postgres: version of the server.
        server_version_num: the same as a number, 180004.
        pgvector: version of the extension.
    """

    connection: OwnConnection
    snapshot: str
    schema_version: int
    postgres: str
    server_version_num: int
    pgvector: str


@asynccontextmanager
async def moment(database_url: str) -> AsyncIterator[Moment]:
    """Hold a store still to be read, while it goes on being written.

    Args:
        database_url: a login that row-level security does not bind.

    Raises:
        UnavailableError: the server cannot be reached, or holds no store.
        ForbiddenError: row-level security would hide the rows from this login.
    """
    async with _connected(database_url) as connection:
        await _require_bypass(connection)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield await _moment(connection)


async def _moment(connection: OwnConnection) -> Moment:
    version = await current_version(connection)
    if version == 0:
        raise UnavailableError(
            "no_store",
            "The database holds no engram store.",
            cure="Check --data or ENGRAM_DATABASE_URL.",
        )
    [about] = await connection.fetch(statement("backup", "about"))
    snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
    return Moment(connection, snapshot, version, **about)


async def _require_bypass(connection: OwnConnection) -> None:
    if not await connection.fetchval(statement("backup", "bypasses")):
        raise ForbiddenError(
            "backup_needs_bypass",
            "Row-level security hides every row from this login of the database.",
            cure="For this command let ENGRAM_DATABASE_URL name a superuser, or a BYPASSRLS role.",
        )


async def census(connection: OwnConnection) -> Census:
    """Return ``{"rows", "sha256"}`` of every table, its rows taken in the order of their key.

    The digest is over Postgres's binary COPY: equal exactly when every value of every row is.
    """
    found: Census = {}
    for table in await connection.fetch(statement("backup", "tables")):
        name = f"{table['schema']}.{table['name']}"
        found[name] = await _digest(connection, name, _order(table))
    return found


def _order(table: asyncpg.Record) -> str:
    # By bytes, so that two servers with other collations agree.
    pairs = zip(table["key_columns"], table["key_texts"], strict=True)
    return ", ".join(f'"{name}"' + (' COLLATE "C"' if text else "") for name, text in pairs)


async def _digest(connection: OwnConnection, name: str, order: str) -> dict[str, Any]:
    sha256 = hashlib.sha256()

    async def take(data: bytes) -> None:
        sha256.update(data)

    # Names come from the catalog; a whole table may take long.
    done = await connection.copy_from_query(
        f"SELECT * FROM {name} ORDER BY {order}", output=take, format="binary", timeout=None
    )
    return {"rows": int(done.rpartition(" ")[2]), "sha256": sha256.hexdigest()}


async def prepare_target(database_url: str, owner_url: str) -> None:
    """Make roles and the extension in a database that holds no store.

    Args:
        database_url: a login that row-level security does not bind.
        owner_url: the login that engram will use there: the roles become its own.

    Raises:
        ConflictError: there is a store already; nothing was changed.
        ForbiddenError: row-level security would hide what is restored from its verification.
        UnavailableError: the server cannot be reached.
    """
    async with _connected(database_url) as connection:
        await _require_bypass(connection)
        if await connection.fetch(statement("backup", "schemas")):
            raise ConflictError(
                "store_not_empty",
                "The target holds a store already; nothing was changed.",
                cure="Restore into a data directory or a database without one.",
            )
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    async with _connected(owner_url) as owner:
        await ensure_roles(owner)


async def adopt(database_url: str, owner: str, expected: Census) -> list[str]:
    """Give what was restored to its owners and return the tables that differ from a census.

    When some differ, all of it is removed again.

    Args:
        database_url: the login that restored it.
        owner: the login that engram uses.
        expected: of the moment of the backup.
    """
    async with _connected(database_url) as connection:
        sql = statement("backup", "give").replace("{owner}", owner.replace("'", "''"))
        await connection.execute(sql)
        found = await census(connection)
        names = sorted(found.keys() | expected.keys())
        differing = [name for name in names if found.get(name) != expected.get(name)]
        await connection.execute(statement("backup", "drop") if differing else "ANALYZE")
        return differing


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[OwnConnection]:
    connection = await connect_owner(database_url)
    try:
        async with reachable():
            yield connection
    finally:
        await connection.close()
