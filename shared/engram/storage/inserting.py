"""Inserts what a batch decided to keep: rows, the ledger of repeats, and the events."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from engram.domain.arrival import Decided, ExternalKey
from engram.domain.memory import State
from engram.storage import naming
from engram.storage.columns import brief
from engram.storage.connection import Connection
from engram.storage.in_turn import Statement, execute_in_turn
from engram.storage.outbox import Announcement, announcing
from engram.storage.queries import statement

# Columns of `_row` that are never NULL and often alike: workspace, namespace, state, metadata,
# categories, importance, pinned, source, created_at, updated_at, actor, access_count.
_FILLED = frozenset((0, 2, 3, 11, 12, 13, 14, 15, 18, 19, 20, 24))
# While Postgres writes these, the rest of a batch is made ready. More parts cost more than they
# gain: each is a statement, waited for.
_FIRST_ROWS = 250


async def insert_all(
    connection: Connection,
    decided: Sequence[Decided],
    now: datetime,
    claimed: frozenset[ExternalKey] = frozenset(),
) -> None:
    """Write the rows of ``insert`` and ``absorb`` decisions, and announce every change.

    Args:
        connection: in the transaction that decided.
        decided: items, each with who brings it and what becomes of it.
        now: the moment of writing.
        claimed: names that belong to new rows already.

    Raises:
        LostRaceError: somebody else has just given a name that was new.
    """
    new = [entry for entry in decided if entry[1].kind in ("insert", "absorb")]
    await execute_in_turn(connection, _statements(new, decided, now))
    if new:
        await naming.name_rest(connection, new, claimed)
        await naming.move(connection, new)
        await _insert_ledger(connection, new, now)


def _statements(
    new: Sequence[Decided], decided: Sequence[Decided], now: datetime
) -> Iterator[Statement]:
    yield from _row_statements(new, now)
    yield from announcing(_announcements(decided), now)


async def insert_rows(
    connection: Connection, new: Sequence[Decided], now: datetime, state: State
) -> None:
    """Write the memory rows alone, all in ``state``."""
    await execute_in_turn(connection, _row_statements(new, now, state))


def _row_statements(
    new: Sequence[Decided], now: datetime, state: State | None = None
) -> Iterator[Statement]:
    sql = statement("write", "insert_memories")
    for part in filter(None, (new[:_FIRST_ROWS], new[_FIRST_ROWS:])):
        rows = zip(*(_row(entry, state) for entry in part), strict=True)
        columns = [brief(column, filled=at in _FILLED) for at, column in enumerate(rows)]
        # $24 is the moment of writing, shared by all rows.
        yield sql, (*columns[:23], now, *columns[23:])


def _row(entry: Decided, state: State | None = None) -> tuple[Any, ...]:
    (item, actor), decision = entry
    m = item.memory
    survivor = decision.target.id if decision.kind == "absorb" and decision.target else None
    return (
        item.workspace,
        item.id,
        m.namespace,
        state or ("merged" if survivor else m.state),
        m.content,
        item.sha256,
        # Of a text that folds to itself the hashes are one.
        None if item.sha256.startswith(item.fold) else item.fold,
        m.user_id,
        m.agent_id,
        m.session_id,
        m.app_id,
        # Checked at the door: nothing is in it that orjson would refuse, or write otherwise.
        orjson.dumps(m.metadata).decode() if m.metadata else "{}",
        array_literal(m.categories),
        m.importance,
        m.pinned,
        m.source,
        m.external_id,
        survivor,
        item.created_at,
        item.updated_at,
        actor,
        m.expires_at,
        m.valid_until,
        m.last_accessed_at,
        m.access_count,
        m.reinforced_at,
    )


def array_literal(texts: Sequence[str]) -> str:
    """Return a Postgres array literal: ``unnest`` would flatten an array of arrays."""
    if not texts:
        return "{}"
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


async def _insert_ledger(connection: Connection, new: Sequence[Decided], now: datetime) -> None:
    absorbed = [
        (uuid7(), item, actor, decision.target.id)
        for (item, actor), decision in new
        if decision.kind == "absorb" and decision.target
    ]
    if not absorbed:
        return
    await connection.execute(
        statement("write", "insert_merges"),
        [item.workspace for _, item, _, _ in absorbed],
        [merge_id for merge_id, _, _, _ in absorbed],
        # An exported record tells that it was merged, not how; an exact repeat is near, too.
        ["near" if item.memory.merged_into else "repeat" for _, item, _, _ in absorbed],
        [survivor for _, _, _, survivor in absorbed],
        [actor for _, _, actor, _ in absorbed],
        now,
    )
    await connection.execute(
        statement("write", "insert_merge_members"),
        [item.workspace for _, item, _, _ in absorbed],
        [merge_id for merge_id, _, _, _ in absorbed],
        [item.id for _, item, _, _ in absorbed],
        [1] * len(absorbed),
        [{"state": "active"}] * len(absorbed),
    )


def _announcements(decided: Sequence[Decided]) -> list[Announcement]:
    said: list[Announcement] = []
    restored: set[UUID] = set()
    for (item, _), decision in decided:
        if decision.kind == "insert":
            said.append(Announcement("created", item.workspace, item.id, 1))
        elif decision.kind == "absorb":
            said.append(Announcement("merged", item.workspace, item.id, 1))
        target = decision.target
        if decision.restores and target and target.id not in restored:
            restored.add(target.id)
            said.append(Announcement("restored", item.workspace, target.id, target.version))
    return said
