"""The audit trail: one entry for each import, export, merge run, migration phase, key, deletion."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.records import as_time


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done. Ids and numbers only, never the text of a memory.

    Attributes:
        workspace: where it was done.
        actor: who did it: the id of a key, ``nats:<source>``, or the name of a service.
        action: kind and verb, such as ``export.finished``; the kind is what lists filter by.
        subject: the id of what it was done to: a memory, a key, a job, a run, a migration.
        counts: how many of what, by name.
        format: of a file that came in or went out.
        duration_s: how long it took, where it takes time.
    """

    workspace: UUID
    actor: str
    action: str
    subject: str | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    format: str | None = None
    duration_s: float | None = None


async def record(connection: Connection, entry: Entry) -> None:
    """Add an entry to the trail, in the transaction of the work that it tells of.

    The version of engram that did it is added. Nobody can change or remove an entry: the role
    that writes it may not.
    """
    await connection.execute(
        statement("audit", "insert"),
        entry.workspace,
        uuid7(),
        entry.actor,
        entry.action,
        entry.counts,
        entry.subject,
        entry.format,
        _version(),
        entry.duration_s,
    )


async def page(
    connection: Connection,
    workspace: UUID,
    *,
    before: UUID,
    kind: str | None,
    since: datetime | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return up to ``limit`` entries below the id ``before``, newest first, in their public shape.

    Args:
        connection: sees the workspace.
        workspace: whose entries.
        before: where the page before ended; the highest uuid to start.
        kind: only actions that start with this word, such as ``key`` or ``export``.
        since: only entries from this instant on.
        limit: most entries returned.
    """
    sql = statement("audit", "page")
    rows = await connection.fetch(sql, workspace, before, kind, since, limit)
    return [{**row, "id": str(row["id"]), "at": as_time(row["at"])} for row in rows]


@cache
def _version() -> str:
    return version("engram")
