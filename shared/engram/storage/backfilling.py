"""The backfill's side of the store: what is missing, how far namespaces are, what plans count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from engram.storage.budgets import Account
from engram.storage.connection import Connection
from engram.storage.migrating import Migration, Name
from engram.storage.queries import over_vectors, statement

# A memory this young, written since dual-write began, is on its way through the event stream.
GRACE: Final = timedelta(seconds=30)
START: Final = UUID(int=0)
END: Final = UUID(int=(1 << 128) - 1)
# A second for a million memories on a warm cache; ten millions on a cold disk have to fit too.
_COUNT_TIMEOUT_S: Final = 1_800.0


@dataclass(frozen=True, slots=True)
class Walked:
    """One page of a namespace.

    Attributes:
        scanned: memories looked at; fewer than asked for at the end.
        last: id of the last one, None when there was none.
        missing: ids that nothing accounts for, ascending.
    """

    scanned: int
    last: UUID | None
    missing: list[UUID]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one namespace is.

    Attributes:
        rows: active memories.
        missing: of them, without a current vector.
        dead: of those, given up by the target's provider.
        open: of those, neither dead nor so young that their bell is under way.
        lost: of those, neither queued nor waiting for a retry.
    """

    workspace: UUID
    namespace: str
    rows: int
    missing: int
    dead: int
    open: int
    lost: int


async def may_queue(connection: Connection, migration_id: UUID) -> bool:
    """Whether the backfill goes on; it does until the transaction ends."""
    return await connection.fetchval(statement("migrating", "going"), migration_id) is not None


async def next_namespaces(
    connection: Connection, migration: Migration, limit: int
) -> list[tuple[UUID, str, UUID]]:
    """Lock the next namespaces that were not walked to the end; (workspace, name, hint) each."""
    order = migration.options.get("order", "most_read")
    rows = await connection.fetch(statement("migrating", "next"), migration.id, order, limit)
    return [(row["workspace"], row["namespace"], row["hint"] or START) for row in rows]


async def walk(
    connection: Connection,
    migration: Migration,
    workspace: UUID,
    namespace: str,
    after: UUID,
    limit: int,
) -> Walked:
    """Look at the next ``limit`` memories of a namespace, by id.

    Costs the page, however much of the namespace is done: there is no anti-join over all of it.
    """
    sql = over_vectors("migrating", "worklist", migration.target)
    space, began_at = migration.target, migration.began_at
    # fmt: off
    row = await connection.fetchrow(
        sql, space, workspace, namespace, after, limit, began_at, GRACE
    )
    # fmt: on
    if row is None:
        return Walked(0, None, [])
    return Walked(row["scanned"], row["last"], list(row["missing"]))


async def leave_hint(
    connection: Connection, migration_id: UUID, workspace: UUID, namespace: str, hint: UUID
) -> None:
    """Say up to where a namespace was walked, in the transaction that queued what was missing."""
    sql = statement("migrating", "walked")
    await connection.execute(sql, migration_id, workspace, namespace, hint)


async def count(connection: Connection, migration: Migration) -> list[Standing]:
    """Count every namespace by one join, and keep the counts; new namespaces join the migration."""
    sql = over_vectors("migrating", "count", migration.target)
    rows = await connection.fetch(
        sql,
        migration.id,
        migration.target,
        migration.workspaces,
        migration.began_at,
        GRACE,
        timeout=_COUNT_TIMEOUT_S,
    )
    return [Standing(**dict(row)) for row in rows]


async def complete(connection: Connection, migration_id: UUID, names: Sequence[Name]) -> int:
    """Namespaces with nothing open are complete; return how many have become so."""
    return await _mark(connection, "completed", migration_id, names)


async def reopen(connection: Connection, migration_id: UUID, names: Sequence[Name]) -> int:
    """Namespaces that lost something are walked again; return how many."""
    return await _mark(connection, "reopened", migration_id, names)


async def _mark(
    connection: Connection, name: str, migration_id: UUID, names: Sequence[Name]
) -> int:
    if not names:
        return 0
    done = await connection.execute(
        statement("migrating", name), migration_id, [w for w, _ in names], [n for _, n in names]
    )
    return int(done.rsplit(" ", 1)[1])


async def save_progress(
    connection: Connection, migration_id: UUID, progress: dict[str, Any]
) -> None:
    """Keep how far it is."""
    await connection.execute(statement("migrating", "progress"), migration_id, progress)


async def dead(
    connection: Connection, migration: Migration, after: tuple[UUID, UUID], limit: int
) -> list[dict[str, Any]]:
    """Return memories that the target's provider gave up, in order of workspace and id."""
    sql = statement("migrating", "dead")
    rows = await connection.fetch(sql, migration.target, *after, migration.workspaces, limit)
    return [dict(row) for row in rows]


async def plan_counts(
    connection: Connection, workspaces: Sequence[UUID] | None, space: int | None
) -> tuple[int, int]:
    """Return rows to be embedded and different texts among them, of a target that may exist."""
    chosen = None if workspaces is None else list(workspaces)
    if space is None:
        sql = statement("migrating", "plan_all")
    else:
        sql = over_vectors("migrating", "plan_missing", space)
    row = await connection.fetchrow(sql, chosen, timeout=_COUNT_TIMEOUT_S)
    return (row["rows"], row["texts"]) if row else (0, 0)


async def plan_scopes(
    connection: Connection, workspaces: Sequence[UUID] | None, exact_rows: int
) -> tuple[int, int, int]:
    """Return workspaces, namespaces, and rows in workspaces too large to be scanned exactly."""
    chosen = None if workspaces is None else list(workspaces)
    row = await connection.fetchrow(
        statement("migrating", "plan_scopes"), chosen, exact_rows, timeout=_COUNT_TIMEOUT_S
    )
    return (row["workspaces"], row["namespaces"], row["indexed_rows"]) if row else (0, 0, 0)


async def sample_texts(
    connection: Connection, workspaces: Sequence[UUID] | None, rows: int, limit: int
) -> list[str]:
    """Return up to ``limit`` texts from all over the store; the same ones while nothing changes."""
    chosen = None if workspaces is None else list(workspaces)
    # A little more than needed, for the sample's size is a matter of chance.
    percent = min(100.0, 100.0 * (limit * 1.3 + 20) / max(rows, 1))
    sql = statement("migrating", "plan_sample")
    return [row["content"] for row in await connection.fetch(sql, chosen, percent, limit)]


async def learned_share(connection: Connection, account: Account) -> float:
    """Return the part of a provider's rate that 429s have left in use, 1.0 when none is known."""
    row = await connection.fetchrow(statement("migrating", "learned_share"), *account.row)
    return 1.0 if row is None else float(row["share"])


async def find_workspaces(connection: Connection, named: Sequence[str]) -> dict[str, UUID]:
    """Return the workspaces with these ids or names, by what named them."""
    rows = await connection.fetch(statement("migrating", "workspaces"), list(named))
    found: dict[str, UUID] = {}
    for row in rows:
        found |= {key: row["id"] for key in (str(row["id"]), row["name"]) if key in named}
    return found


async def space_sizes(connection: Connection) -> list[dict[str, Any]]:
    """Return every space's size on disk and how many read it."""
    return [dict(row) for row in await connection.fetch(statement("migrating", "sizes"))]


async def read_spaces(connection: Connection, workspaces: Sequence[UUID] | None) -> list[int]:
    """Return the spaces that these workspaces read by default, the most read one first."""
    chosen = None if workspaces is None else list(workspaces)
    rows = await connection.fetch(statement("migrating", "read_spaces"), chosen)
    return [row["read_space"] for row in rows]
