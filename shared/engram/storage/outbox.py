"""Outbox lines: written with the change they announce, claimed and deleted by a relay."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from engram import tracing
from engram.events import MAX_EVENT_ITEMS, EventKind, encode_items_event, memory_subject
from engram.storage.connection import Connection
from engram.storage.in_turn import Statement, execute_in_turn
from engram.storage.queries import statement


# Not frozen, as Arriving: one is made for each change.
@dataclass(slots=True)
class Announcement:
    """One memory to name in an event."""

    kind: EventKind
    workspace: UUID
    memory_id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Line:
    """One claimed outbox line: one message with one ``Nats-Msg-Id``."""

    id: int
    uuid: UUID
    subject: str
    payload: bytes


async def announce(
    connection: Connection, announcements: Iterable[Announcement], now: datetime
) -> None:
    """Write the events of this transaction, up to 256 memories of one kind and workspace each."""
    await execute_in_turn(connection, announcing(announcements, now))


def announcing(announcements: Iterable[Announcement], now: datetime) -> Iterator[Statement]:
    """Yield the statement of `announce`, none where nothing is to be told."""
    groups: defaultdict[tuple[EventKind, UUID], list[tuple[str, int]]] = defaultdict(list)
    for one in announcements:
        groups[one.kind, one.workspace].append((str(one.memory_id), one.version))
    lines: list[tuple[UUID, UUID, str, bytes]] = []
    traceparent = tracing.current()
    for (kind, workspace), items in groups.items():
        for start in range(0, len(items), MAX_EVENT_ITEMS):
            uuid = uuid7()
            part = items[start : start + MAX_EVENT_ITEMS]
            event = encode_items_event(str(uuid), kind, str(workspace), part, now, traceparent)
            lines.append((uuid, workspace, memory_subject(kind), event))
    if lines:
        columns = map(list, zip(*lines, strict=True))
        yield statement("write", "insert_outbox"), tuple(columns)


async def claim_lines(connection: Connection, floor: int, limit: int) -> list[Line]:
    """Lock up to ``limit`` lines above ``floor`` that no other relay holds, in order."""
    rows = await connection.fetch(statement("outbox", "claim"), floor, limit)
    return [Line(row["id"], row["uuid"], row["subject"], row["payload"]) for row in rows]


async def delete_lines(connection: Connection, ids: Sequence[int]) -> None:
    """Forget lines whose message the broker has stored."""
    await connection.execute(statement("outbox", "delete"), list(ids))


async def depth(connection: Connection, most: int) -> int:
    """Return how many lines wait, counted up to ``most``."""
    return int(await connection.fetchval(statement("outbox", "depth"), most))


async def depth_by_workspace(connection: Connection) -> dict[UUID, int]:
    """Return how many lines wait for each workspace that has any."""
    rows = await connection.fetch(statement("outbox", "depth_by_workspace"))
    return {row["workspace"]: row["lines"] for row in rows}
