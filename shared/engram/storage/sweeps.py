"""The sweep table, the only scheduler: claims with a lease, one holder at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from engram.storage.connection import Connection
from engram.storage.queries import statement


@dataclass(frozen=True, slots=True)
class Sweep:
    """One scheduled duty and how its last run went.

    Attributes:
        enabled: False while it is switched off: it is not run, however due.
        last_duration_s: of the last run that ended.
        running: a curator has it now.
    """

    name: str
    every_s: float
    next_due: datetime
    last_started: datetime | None
    last_finished: datetime | None
    last_error: str | None
    enabled: bool = True
    last_duration_s: float | None = None
    running: bool = False


async def ensure_sweeps(connection: Connection, every: Mapping[str, timedelta]) -> None:
    """Add sweeps that are missing; an interval a person has set stays."""
    await connection.execute(statement("sweep", "ensure"), list(every), list(every.values()))


async def claim_sweep(
    connection: Connection, holder: UUID, lease: timedelta, names: Sequence[str]
) -> str | None:
    """Claim the sweep that is longest overdue, or None."""
    name: str | None = await connection.fetchval(
        statement("sweep", "claim"), holder, lease, list(names)
    )
    return name


async def extend_lease(connection: Connection, name: str, holder: UUID, lease: timedelta) -> bool:
    """Keep a claim while the work goes on; False when another holder has it by now."""
    found = await connection.fetchval(statement("sweep", "extend"), name, holder, lease)
    return found is not None


async def finish_sweep(connection: Connection, name: str, holder: UUID, error: str | None) -> None:
    """Give the claim back and set the next due time."""
    await connection.execute(statement("sweep", "finish"), name, holder, error)


async def due_now(connection: Connection, name: str) -> None:
    """Make a sweep run at the next look."""
    await connection.execute(statement("sweep", "due_now"), name)


async def set_sweep(
    connection: Connection, name: str, every: timedelta | None, enabled: bool | None
) -> bool:
    """Change how often a sweep is due, or switch it off or on; False when there is no such one."""
    found = await connection.fetchval(statement("sweep", "set"), name, every, enabled)
    return found is not None


async def last_started(connection: Connection, name: str) -> datetime | None:
    """Return when a sweep last began, by the database's clock; None when it never did."""
    found: datetime | None = await connection.fetchval(statement("sweep", "last_started"), name)
    return found


async def list_sweeps(connection: Connection) -> list[Sweep]:
    """Return all sweeps by name."""
    return [Sweep(**row) for row in await connection.fetch(statement("sweep", "list"))]


async def expire_keys(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete up to ``limit`` idempotency keys of long ago and return how many."""
    done = await connection.execute(statement("sweep", "expire_keys"), older_than, limit)
    return int(done.rsplit(" ", 1)[1])
