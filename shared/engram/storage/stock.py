"""What there is in the database now, for the exporter: the lease on it, and the counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement

# A million memories take a second or two; what takes longer than this is left to the next look.
_COUNT_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Quick:
    """What is read without looking at memories or vectors; rows as of ``sql/stock.sql``.

    Attributes:
        outbox: lines, and the age of the oldest in seconds.
        runs: memories merged by the dedup runs of the last 7 days, and of them restored.
        findings: open proposals and open conflicts.
        uncalibrated: spaces in which dedup may only propose.
        migration: the one under way or else the newest; None when there never was any.
    """

    outbox: tuple[int, float]
    bulk: Sequence[asyncpg.Record]
    sweeps: Sequence[asyncpg.Record]
    tables: Sequence[asyncpg.Record]
    database_bytes: int
    runs: tuple[int, int]
    findings: tuple[int, int]
    migration: asyncpg.Record | None
    withheld_s: float
    uncalibrated: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Exact counts of everything; rows as of ``sql/stock.sql``.

    Attributes:
        spaces: current, pending, dead, missing, stale, orphan and oldest_s of each space, by id.
    """

    memories: Sequence[asyncpg.Record]
    failures: Sequence[asyncpg.Record]
    letters: Sequence[asyncpg.Record]
    spaces: dict[int, asyncpg.Record]


async def hold(connection: Connection, name: str, holder: UUID, lease: timedelta) -> bool:
    """Take or keep the lease on a row of the sweep table; False while somebody else has it."""
    return await connection.fetchval(statement("stock", "hold"), name, holder, lease) is not None


async def held(connection: Connection, name: str, holder: UUID, error: str | None) -> None:
    """Write down how a round under the lease went."""
    await connection.execute(statement("stock", "held"), name, holder, error)


async def release(connection: Connection, name: str, holder: UUID) -> None:
    """Give the lease back, so that the next one need not wait for its end."""
    await connection.execute(statement("stock", "release"), name, holder)


async def quick(connection: Connection) -> Quick:
    """Read queues, sweeps, sizes and the migration: some milliseconds, however much is stored."""

    async def rows(name: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await connection.fetch(statement("stock", name))
        return found

    [outbox], [runs], [findings] = await rows("outbox"), await rows("runs"), await rows("findings")
    migrations = await rows("migrations")
    return Quick(
        (outbox["lines"], outbox["oldest_s"]),
        await rows("bulk"),
        await rows("sweeps"),
        await rows("tables"),
        await connection.fetchval(statement("stock", "database")),
        (runs["merged"], runs["restored"]),
        (findings["proposals"], findings["conflicts"]),
        migrations[0] if migrations else None,
        await connection.fetchval(statement("stock", "withheld")),
        len(await connection.fetch(statement("dedup", "uncalibrated"))),
    )


async def count(connection: Connection, spaces: Sequence[int]) -> Counted:
    """Count every memory, vector and failure in one snapshot: they agree with one another.

    Args:
        connection: of the worker role, outside a transaction.
        spaces: ids of the spaces whose vectors are counted.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        memories, failures, letters = [
            await connection.fetch(statement("stock", name), timeout=_COUNT_TIMEOUT_S)
            for name in ("memories", "failures", "letters")
        ]
        found = {
            space: await connection.fetchrow(
                over_vectors("stock", "space", space), space, timeout=_COUNT_TIMEOUT_S
            )
            for space in spaces
        }
    return Counted(memories, failures, letters, {s: row for s, row in found.items() if row})
