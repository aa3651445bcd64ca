"""Connections to Postgres: pools bound to a role, with the codecs every query relies on."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from pgvector.asyncpg import register_vector

from engram.errors import UnavailableError

Role = Literal["engram_api", "engram_worker"]
# asyncpg's classes are generic in their stubs only.
if TYPE_CHECKING:
    OwnConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Connection: TypeAlias = OwnConnection | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    OwnConnection = asyncpg.Connection
    Connection = asyncpg.Connection | PoolConnectionProxy
    Pool = asyncpg.Pool

# What asyncpg raises when the server is gone, starting up, full, or was never there.
UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # What asyncpg says of a connection that was lost while it was being handed out.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
)
_FROZEN_TIMEOUT = "10s"
# Lost a race with another transaction: nothing was written, trying again is safe.
CONTENDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


async def open_pool(database_url: str, role: Role, *, size: int, name: str) -> Pool:
    """Open a pool whose connections act as ``role``, whoever logged in.

    Args:
        database_url: ``postgresql://`` URL of a login that may take the role.
        role: what row-level security sees.
        size: most connections; one is opened at once to fail early.
        name: shown as ``application_name``.

    Raises:
        UnavailableError: the server cannot be reached or refuses the login.
    """
    try:
        return await asyncpg.create_pool(
            database_url,
            min_size=1,
            max_size=size,
            init=_prepare,
            command_timeout=60,
            timeout=10,
            server_settings={
                "role": role,
                "application_name": f"engram {name}",
                "jit": "off",
                # A generic plan made while a table was empty reads whole workspaces once it is
                # not, until the next analyze; planning anew costs a fraction of a millisecond.
                "plan_cache_mode": "force_custom_plan",
                # A process that is frozen in mid-transaction keeps its locks, and whoever edits
                # one of its memories would wait for as long as it sleeps.
                "idle_in_transaction_session_timeout": _FROZEN_TIMEOUT,
            },
        )
    except (*UNREACHABLE, asyncpg.PostgresError, ValueError) as error:
        raise unreachable(error) from error


async def _prepare(connection: OwnConnection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_json, decoder=orjson.loads
    )
    await register_vector(connection)


async def connect_owner(database_url: str) -> OwnConnection:
    """Open one connection that acts as whoever logs in: the owner, who migrates.

    Raises:
        UnavailableError: the server cannot be reached or refuses the login.
    """
    try:
        return await asyncpg.connect(database_url, timeout=10, server_settings={"jit": "off"})
    except (*UNREACHABLE, asyncpg.PostgresError, ValueError) as error:
        raise unreachable(error) from error


def _encode_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def unreachable(error: BaseException) -> UnavailableError:
    """Return the error a user sees when Postgres cannot be used; never shows the URL."""
    return UnavailableError(
        "postgres_unavailable",
        f"Postgres cannot be used ({type(error).__name__}).",
        cure="Check ENGRAM_DATABASE_URL, that the server runs and that `engram bootstrap` was run.",
        retry_after_s=2,
    )


@asynccontextmanager
async def about(pool: Pool, workspaces: Iterable[UUID]) -> AsyncIterator[Connection]:
    """Open a transaction that sees just these workspaces.

    Raises:
        UnavailableError: Postgres cannot be reached.
    """
    named = [str(workspace) for workspace in workspaces]
    if not named:
        raise ValueError("a transaction must name its workspaces")
    listed = "{" + ",".join(named) + "}"
    async with reachable(), pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('engram.workspaces', $1, true)", listed)
        yield connection


@asynccontextmanager
async def reachable() -> AsyncIterator[None]:
    """Turn a lost or refused connection into `UnavailableError`."""
    try:
        yield
    except asyncio.CancelledError:
        raise
    except UNREACHABLE as error:
        raise unreachable(error) from error
