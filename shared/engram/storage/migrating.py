"""Migrations as rows: their records, phases and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from engram.domain.migrating import Facts, NamespaceState, Phase, follows
from engram.errors import ConflictError, NotFoundError
from engram.events import encode_migration_event, migration_subject
from engram.storage import auditing
from engram.storage.auditing import Entry
from engram.storage.connection import Connection
from engram.storage.queries import statement

Name = tuple[UUID, str]
BEFORE_ALL: Final[Name] = (UUID(int=0), "")


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration as stored.

    Attributes:
        source_space: the space that is left, None once it was dropped.
        target_space: the space that is filled, None before the start and once it was dropped.
        target_made: the start made it.
        workspaces: whose memories move, None for all.
        home: the workspace of whoever asked: its audit trail and events tell of the migration.
        actor: the key that planned it.
        options: order, share, sample, queries, adapter.
        wish: what the migrator has still to do.
        phases: when each phase was entered.
        held: a migrator works on it.
    """

    id: UUID
    source_space: int | None
    target_space: int | None
    phase: Phase
    paused: bool
    plan: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    source_key: str
    target_key: str
    target_made: bool
    workspaces: list[UUID] | None
    home: UUID
    actor: str
    options: dict[str, Any] = field(default_factory=dict)
    wish: dict[str, Any] | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    phases: dict[str, str] = field(default_factory=dict)
    held: bool = False

    @property
    def began_at(self) -> datetime:
        """When dual-write began; the start of time before that."""
        at = self.phases.get("dual_write")
        return datetime.fromisoformat(at) if at else datetime(1970, 1, 1, tzinfo=UTC)

    @property
    def target(self) -> int:
        """The target's id.

        Raises:
            ConflictError: there is none yet, or none any more.
        """
        if self.target_space is None:
            raise ConflictError("no_target", "The migration has no target space.", cure="Start it.")
        return self.target_space

    @property
    def source(self) -> int:
        """The source's id.

        Raises:
            ConflictError: it was dropped.
        """
        if self.source_space is None:
            raise ConflictError("no_source", "The old space is gone.", cure="Plan another one.")
        return self.source_space


@dataclass(frozen=True, slots=True)
class NewMigration:
    """What a plan leaves behind."""

    source_space: int
    target_space: int | None
    source_key: str
    target_key: str
    workspaces: list[UUID] | None
    home: UUID
    actor: str
    options: dict[str, Any]
    plan: dict[str, Any]


async def create(connection: Connection, new: NewMigration) -> UUID:
    """Store a planned migration and return its id; audited."""
    made = uuid7()
    # fmt: off
    await connection.execute(
        statement("migrating", "create"), made, new.source_space, new.target_space, new.plan,
        new.source_key, new.target_key, new.workspaces, new.home, new.actor, new.options,
    )
    # fmt: on
    await _tell(connection, made, new.home, new.actor, "planned", _counts_of(new.plan))
    return made


def _counts_of(plan: dict[str, Any]) -> dict[str, Any]:
    return {name: plan.get(name) for name in ("rows", "distinct", "tokens", "cost_usd")}


async def read(connection: Connection, migration_id: UUID) -> Migration:
    """Return one migration.

    Raises:
        NotFoundError: there is no such one.
    """
    row = await connection.fetchrow(statement("migrating", "read"), migration_id)
    if row is None:
        raise unknown_migration()
    return _migration(row)


async def page(connection: Connection, before: UUID, limit: int) -> list[Migration]:
    """Return up to ``limit`` migrations below an id, newest first."""
    rows = await connection.fetch(statement("migrating", "page"), before, limit)
    return [_migration(row) for row in rows]


def _migration(row: asyncpg.Record) -> Migration:
    return Migration(**dict(row))


def unknown_migration() -> NotFoundError:
    """Return the error for an id that no migration has."""
    return NotFoundError(
        "migration_not_found", "There is no such migration.", cure="List them: engram migrate list."
    )


async def under_way(connection: Connection) -> UUID | None:
    """Return the migration that is under way, None when there is none."""
    found: UUID | None = await connection.fetchval(statement("migrating", "under_way"))
    return found


async def enter(
    connection: Connection,
    migration: Migration,
    phase: Phase,
    *,
    actor: str,
    counts: dict[str, Any] | None = None,
) -> bool:
    """Enter a phase: noted with its time, audited and announced, all in the caller's transaction.

    Args:
        connection: in a transaction of the worker role.
        migration: whose phase is read again, under a lock.
        phase: the one to enter; when it is in it already nothing happens.
        actor: who did it: a key, or ``migrator``.
        counts: what the audit trail should say of it.

    Returns:
        True when the phase was entered now.

    Raises:
        ConflictError: no migration goes from the phase it is in to this one.
    """
    row = await connection.fetchrow(statement("migrating", "lock"), migration.id)
    if row is None:
        raise unknown_migration()
    before: Phase = row["phase"]
    if before == phase:
        return False
    if not follows(before, phase):
        raise ConflictError(
            "wrong_phase",
            f"No migration goes from {before} to {phase}.",
            cure="See docs/migrating.md for the phases.",
        )
    try:
        async with connection.transaction():
            await connection.execute(statement("migrating", "enter"), migration.id, phase, before)
    except asyncpg.UniqueViolationError:
        raise ConflictError(
            "migration_under_way",
            "Another migration is under way; there is one at a time.",
            cure="Release or abort that one first (`engram migrate list`).",
        ) from None
    await _tell(connection, migration.id, migration.home, actor, phase, counts or {})
    return True


async def tell(
    connection: Connection,
    migration: Migration,
    action: str,
    actor: str,
    counts: dict[str, Any] | None = None,
) -> None:
    """Audit and announce what was done to a migration, in the caller's transaction.

    Args:
        connection: of the worker role.
        migration: which one.
        action: a phase, or a verb in the past: paused, resumed, rolled_back, failed, asked.
        actor: who did it.
        counts: ids and numbers only.
    """
    await _tell(connection, migration.id, migration.home, actor, action, counts or {})


async def _tell(
    connection: Connection,
    migration_id: UUID,
    home: UUID,
    actor: str,
    action: str,
    counts: dict[str, Any],
) -> None:
    subject = str(migration_id)
    await auditing.record(
        connection, Entry(home, actor, f"migration.{action}", subject=subject, counts=counts)
    )
    uuid = uuid7()
    event = encode_migration_event(str(uuid), action, str(home), subject, datetime.now(UTC))
    await connection.execute(
        statement("migrating", "insert_outbox"), uuid, home, migration_subject(action), event
    )


async def lock(connection: Connection, migration_id: UUID) -> Migration:
    """Return a migration that nobody else changes until the transaction ends.

    Raises:
        NotFoundError: there is no such one.
    """
    await connection.execute(statement("migrating", "lock"), migration_id)
    return await read(connection, migration_id)


async def facts(
    connection: Connection, migration: Migration, names: Sequence[Name] | None = None
) -> Facts:
    """Return what the rules ask of a migration, of these namespaces or all."""
    going = await under_way(connection)
    reading = 0
    if migration.target_space is not None:
        sql = statement("migrating", "reading")
        reading = await connection.fetchval(sql, migration.target_space)
        # A space that was there before may have had readers of its own.
        reading = reading if migration.target_made else 0
    return Facts(
        phase=migration.phase,
        paused=migration.paused,
        wish=migration.wish["verb"] if migration.wish else None,
        others_under_way=going is not None and going != migration.id,
        namespaces=tuple((await states(connection, migration.id, names)).items()),
        reading_target=reading,
    )


async def states(
    connection: Connection, migration_id: UUID, names: Sequence[Name] | None = None
) -> dict[NamespaceState, int]:
    """Return how many namespaces are in each state; states without any are absent."""
    listed = (None, None) if names is None else ([w for w, _ in names], [n for _, n in names])
    rows = await connection.fetch(statement("migrating", "states"), migration_id, *listed)
    return {row["state"]: row["namespaces"] for row in rows}


async def namespaces(
    connection: Connection,
    migration_id: UUID,
    *,
    in_states: Sequence[NamespaceState] | None = None,
    after: Name = BEFORE_ALL,
    limit: int = 1_000_000,
) -> list[asyncpg.Record]:
    """Return the namespaces of a migration in order of workspace and name, as their rows."""
    chosen = None if in_states is None else list(in_states)
    sql = statement("migrating", "namespaces")
    return await connection.fetch(sql, migration_id, chosen, *after, limit)


async def set_paused(
    connection: Connection, migration: Migration, actor: str, *, paused: bool
) -> None:
    """Hold the backfill, or let it go on; audited when it changes anything."""
    done = await connection.execute(statement("migrating", "pause"), migration.id, paused)
    if not done.endswith(" 0"):
        await tell(connection, migration, "paused" if paused else "resumed", actor)


async def set_options(
    connection: Connection, migration: Migration, actor: str, options: dict[str, Any]
) -> None:
    """Change options; a running backfill follows at its next turn. Audited."""
    await keep_options(connection, migration.id, options)
    await tell(connection, migration, "options", actor, options)


async def keep_options(connection: Connection, migration_id: UUID, options: dict[str, Any]) -> None:
    """Keep what belongs to one verify and is content: nothing tells of it."""
    await connection.execute(statement("migrating", "options"), migration_id, options)


async def set_target(connection: Connection, migration_id: UUID, space: int, *, made: bool) -> None:
    """Say which space is the target, and whether this migration made it."""
    await connection.execute(statement("migrating", "target"), migration_id, space, made)
