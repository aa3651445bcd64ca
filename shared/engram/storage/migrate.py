"""Brings the schema of a database to the version this code expects, under a lock."""

from importlib.resources import files

from engram.errors import UnavailableError
from engram.storage.connection import Connection, OwnConnection, connect_owner
from engram.storage.roles import ensure_roles

_LOCK = 0x656E6772616D  # "engram"


def migrations() -> list[tuple[int, str]]:
    """Return (version, file name) of every migration, ascending."""
    folder = files("engram.storage").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_", 1)[0]), name) for name in names]


def expected_version() -> int:
    """Return the schema version this code was written for."""
    return migrations()[-1][0]


async def migrate(database_url: str, *, step_by_step: bool = False) -> int:
    """Create or upgrade the schema; safe to run by many at once and again at any time.

    An empty database gets ``schema.sql`` in one step; an older one gets the migrations it lacks,
    in order. Both lead to the same schema, which a test proves.

    Args:
        database_url: a login that owns the database and may create roles.
        step_by_step: build an empty database from the migrations too.

    Returns:
        The version the schema now has.

    Raises:
        UnavailableError: the server cannot be reached, or the schema is newer than this code.
    """
    connection = await connect_owner(database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await ensure_roles(connection)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            return await _advance(connection, step_by_step=step_by_step)
    finally:
        await connection.close()


async def current_version(connection: Connection) -> int:
    """Return the version of the schema in this database, 0 when there is none."""
    if await connection.fetchval("SELECT to_regclass('engram.schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT max(version) FROM engram.schema_version"))


async def _advance(connection: OwnConnection, *, step_by_step: bool) -> int:
    have, want = await current_version(connection), expected_version()
    if have > want:
        raise UnavailableError(
            "schema_too_new",
            f"The database has schema version {have}; this engram knows up to {want}.",
            cure="Upgrade engram, or point ENGRAM_DATABASE_URL at another database.",
        )
    folder = files("engram.storage")
    if have == 0 and not step_by_step:
        await connection.execute(folder.joinpath("schema.sql").read_text())
    for version, name in migrations():
        if version <= have:
            continue
        if have or step_by_step:
            await connection.execute(folder.joinpath(f"migrations/{name}").read_text())
        await connection.execute(
            "INSERT INTO engram.schema_version (version, name) VALUES ($1, $2)", version, name
        )
    return want
