"""The vector indexes in the database: counting, building, retiring and dropping them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

import asyncpg

from engram.domain.indexing import Build, Range, Scope, Size
from engram.storage.connection import Connection, Pool, reachable
from engram.storage.queries import over_vectors, statement, vector_table

BUILD_TIMEOUT_S = 6 * 3600.0
_DROP_LOCK_TIMEOUT = "2s"
_MAX_BUILD_MEMORY_MB = 4096
_MIN_BUILD_MEMORY_MB = 64
# Beside the vector, HNSW keeps about this much for a row at m = 16.
_GRAPH_BYTES = 512


@dataclass(frozen=True, slots=True)
class Counted:
    """A counted scope; ``drifted`` when the kept count of its namespace should be renewed."""

    size: Size
    drifted: bool


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index as the table describes it, and whether the database really has it.

    Attributes:
        age_s: seconds since ``state`` last changed.
    """

    range: Range
    state: Literal["building", "ready", "retiring"]
    valid: bool
    age_s: float


@asynccontextmanager
async def sole_builder(pool: Pool, space: int) -> AsyncIterator[Connection | None]:
    """Yield a connection that alone builds in this space, or None while another one does.

    The lock is the session's: whoever dies loses it.

    Raises:
        UnavailableError: Postgres cannot be reached.
    """
    async with reachable(), pool.acquire() as connection:
        if not await connection.fetchval(statement("index", "lock"), space):
            yield None
            return
        try:
            yield connection
        finally:
            if not connection.is_closed():
                await connection.execute(statement("index", "unlock"), space)


async def changes(connection: Connection, space: int) -> int | None:
    """Return a number that moves with every write to a space's vectors; None: no such table."""
    found = await connection.fetchval(statement("index", "changes"), vector_table(space))
    return None if found is None else int(found)


async def count_sizes(connection: Connection, space: int, above: int) -> list[Counted]:
    """Return scopes of more than ``above`` rows, and namespaces whose kept count has drifted."""
    sql = over_vectors("index", "sizes", space)
    rows = await connection.fetch(sql, above, space, timeout=600)
    return [
        Counted(
            Size(Scope(row["workspace"], row["namespace"]), row["rows"], row["max_seq"]),
            row["drifted"],
        )
        for row in rows
    ]


async def save_sizes(connection: Connection, sizes: Iterable[Size]) -> None:
    """Keep the row counts of namespaces; one that is being written to keeps its old count."""
    listed = list(sizes)
    for start in range(0, len(listed), 500):
        part = listed[start : start + 500]
        await connection.execute(
            statement("index", "save_sizes"),
            [size.scope.workspace for size in part],
            [size.scope.namespace for size in part],
            [size.rows for size in part],
        )


async def tail_rows(
    connection: Connection, space: int, scope: Scope, *, after: int, at_most: int
) -> int:
    """Count rows of a scope with a ``seq`` above ``after``, up to ``at_most``."""
    sql = over_vectors("index", "tail", space)
    return int(await connection.fetchval(sql, scope.workspace, scope.namespace, after, at_most))


async def all_indexes(connection: Connection, space: int) -> list[StoredIndex]:
    """Return every index of a space, whatever its state."""
    rows = await connection.fetch(statement("index", "all"), space)
    return [StoredIndex(_range(row), row["state"], row["valid"], row["age_s"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Ready:
    """What a search needs to choose its route.

    Attributes:
        rows: last count of the namespace; 0 when it was never counted.
        ranges: usable ranges of the namespace and of its workspace.
        predicates: the SQL of each range by name, as the server quoted it.
    """

    rows: int
    ranges: tuple[Range, ...]
    predicates: dict[str, str]


async def ready_indexes(
    connection: Connection, space: int, workspace: UUID, namespace: str | None
) -> Ready:
    """Return what is known about the indexes of a searched scope."""
    rows = await connection.fetch(statement("index", "ready"), space, workspace, namespace)
    found = [row for row in rows if row["name"] is not None]
    return Ready(
        rows[0]["row_count"] or 0,
        tuple(_range(row) for row in found),
        {row["name"]: row["predicate"] for row in found},
    )


def _range(row: asyncpg.Record) -> Range:
    scope = Scope(row["scope_workspace"], row["scope_namespace"])
    return Range(row["name"], scope, row["seq_low"], row["seq_high"], row["rows"] or 0)


async def build(connection: Connection, space: int, wanted: Build, dimensions: int) -> str:
    """Build an index beside reads and writes, then swap it in for those it replaces.

    Returns:
        Its name.

    Raises:
        asyncpg.PostgresError: the build failed; its row says ``building`` until `drop` is called.
    """
    name = f"space_{int(space)}_hnsw_{uuid4().hex[:16]}"
    scope = wanted.scope
    predicate = await connection.fetchval(
        statement("index", "begin"),
        *(space, name, scope.workspace, scope.namespace, wanted.low, wanted.high),
    )
    # The predicate goes in last: it holds a name that a sender chose.
    sql = over_vectors("index", "build", space).replace("{name}", name)
    sql = sql.replace("{predicate}", predicate)
    async with _as_owner(connection, _memory_mb(wanted.rows, dimensions)):
        await _create(connection, sql, name)
        await connection.execute(over_vectors("index", "analyze", space), timeout=600)
    await connection.execute(statement("index", "finish"), space, name, list(wanted.replaces))
    return name


async def _create(connection: Connection, sql: str, name: str) -> None:
    try:
        await connection.execute(sql, timeout=BUILD_TIMEOUT_S)
    except asyncpg.DiskFullError:
        # A parallel build wants its memory in /dev/shm, and containers have 64 MB of that.
        await connection.execute(statement("index", "drop").replace("{name}", name))
        await connection.execute("SET max_parallel_maintenance_workers = 0")
        await connection.execute(sql, timeout=BUILD_TIMEOUT_S)


def _memory_mb(rows: int, dimensions: int) -> int:
    needed = rows * (2 * dimensions + _GRAPH_BYTES) * 5 // 4 // (1 << 20)
    return max(_MIN_BUILD_MEMORY_MB, min(_MAX_BUILD_MEMORY_MB, needed))


@asynccontextmanager
async def _as_owner(connection: Connection, memory_mb: int) -> AsyncIterator[None]:
    await connection.execute("SET ROLE engram_vec")
    await connection.execute(f"SET maintenance_work_mem = '{int(memory_mb)}MB'")
    try:
        yield
    finally:
        if not connection.is_closed():
            for name in (
                "maintenance_work_mem",
                "max_parallel_maintenance_workers",
                "lock_timeout",
                "role",
            ):
                await connection.execute(f"RESET {name}")


async def retire(connection: Connection, space: int, names: Sequence[str]) -> None:
    """Take indexes out of use; searches that have read the old list still find them."""
    await connection.execute(statement("index", "retire"), space, list(names))


async def drop(connection: Connection, space: int, name: str) -> bool:
    """Drop an index and forget it; False when it is in use, to be tried again."""
    async with _as_owner(connection, _MIN_BUILD_MEMORY_MB):
        await connection.execute(f"SET lock_timeout = '{_DROP_LOCK_TIMEOUT}'")
        try:
            await connection.execute(statement("index", "drop").replace("{name}", name))
        except asyncpg.LockNotAvailableError:
            return False
    await connection.execute(statement("index", "forget"), space, name)
    return True
