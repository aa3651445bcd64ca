"""Connections to Postgres: pools bound to a role, with the codecs every query relies on."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy
from pgvector import HalfVector

from engram.errors import UnavailableError
from engram.storage import halves

Role = Literal["engram_api", "engram_worker"]
# asyncpg's classes are generic in their stubs only.
if TYPE_CHECKING:
    OwnConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Connection: TypeAlias = OwnConnection | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Acquiring: TypeAlias = PoolAcquireContext[asyncpg.Record]
else:
    OwnConnection = asyncpg.Connection
    Connection = asyncpg.Connection | PoolConnectionProxy
    Pool = asyncpg.Pool
    Acquiring = PoolAcquireContext

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
# Lost a race with another transaction: nothing was written, trying again is safe. A table that is
# gone is that of a space which was released between two statements.
CONTENDED = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.UndefinedTableError,
)


class _TimedPool(Pool):
    """A pool that tells how long each caller waited for a connection."""

    waited: Callable[[float], None]

    def acquire(self, *, timeout: float | None = None) -> "_Acquiring":
        return _Acquiring(self, timeout)


class _Acquiring(Acquiring):
    async def __aenter__(self) -> "PoolConnectionProxy[asyncpg.Record]":
        started = time.perf_counter()
        try:
            return await super().__aenter__()
        finally:
            cast("_TimedPool", self.pool).waited(time.perf_counter() - started)


async def open_pool(
    database_url: str,
    role: Role,
    *,
    size: int,
    name: str,
    waited: Callable[[float], None] = lambda _: None,
    resets: bool = True,
) -> Pool:
    """Open a pool whose connections act as ``role``, whoever logged in.

    Args:
        database_url: ``postgresql://`` URL of a login that may take the role.
        role: what row-level security sees.
        size: most connections; one is opened at once to fail early.
        name: shown as ``application_name``.
        waited: told the seconds until each connection was handed out.
        resets: undo whatever was set on a connection when it is given back. False saves the round
            trip for a service whose statements set nothing beyond their transaction.

    Raises:
        UnavailableError: the server cannot be reached or refuses the login.
    """
    try:
        pool = _TimedPool(
            database_url,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            min_size=1,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=None,
            init=_prepare,
            reset=None if resets else _leave,
            command_timeout=60,
            timeout=10,
            server_settings=_session(role, name),
        )
        pool.waited = waited
        return await pool
    except (*UNREACHABLE, asyncpg.PostgresError, ValueError) as error:
        raise unreachable(error) from error


def _session(role: Role, name: str) -> dict[str, str]:
    return {
        "role": role,
        "application_name": f"engram {name}",
        "jit": "off",
        # A generic plan made while a table was empty reads whole workspaces once it is not, until
        # the next analyze; planning anew costs a fraction of a millisecond.
        "plan_cache_mode": "force_custom_plan",
        # A process that is frozen in mid-transaction keeps its locks, and whoever edits one of its
        # memories would wait for as long as it sleeps.
        "idle_in_transaction_session_timeout": _FROZEN_TIMEOUT,
    }


async def _prepare(connection: OwnConnection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_json, decoder=orjson.loads
    )
    await connection.set_type_codec(
        "halfvec", encoder=halves.encode, decoder=HalfVector.from_binary, format="binary"
    )


async def _leave(connection: "asyncpg.Connection[Any]") -> None:
    """Give a connection back as it is; asyncpg has ended its transaction."""


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
    if isinstance(error, asyncpg.DiskFullError):
        return UnavailableError(
            "store_full",
            "Postgres has no room on its disk; nothing was stored.",
            cure="Free some space there; engram goes on by itself. Send again then, with the same "
            "Idempotency-Key.",
            retry_after_s=30,
        )
    return UnavailableError(
        "postgres_unavailable",
        f"Postgres cannot be used ({type(error).__name__}).",
        cure="Check ENGRAM_DATABASE_URL, that the server runs and that `engram bootstrap` was run.",
        retry_after_s=2,
    )


@asynccontextmanager
async def about(
    pool: Pool,
    workspaces: Iterable[UUID],
    isolation: Literal["read_committed", "repeatable_read"] | None = None,
) -> AsyncIterator[Connection]:
    """Open a transaction that sees just these workspaces.

    Args:
        pool: of the API role.
        workspaces: at least one.
        isolation: ``repeatable_read`` for reads of several statements that must agree; only for
            reads: what writes relies on each statement seeing its own moment.

    Raises:
        UnavailableError: Postgres cannot be reached.
    """
    named = [str(workspace) for workspace in workspaces]
    if not named:
        raise ValueError("a transaction must name its workspaces")
    listed = "{" + ",".join(named) + "}"
    async with (
        reachable(),
        pool.acquire() as connection,
        connection.transaction(isolation=isolation),
    ):
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
