"""Replaces a namespace or a source: the new set is staged beside the old one, then takes over."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from engram.domain.arrival import (
    Arrivals,
    Arriving,
    Decided,
    Decision,
    ExternalKey,
    Plan,
    decide_all,
)
from engram.events import EventKind
from engram.storage import knowing
from engram.storage.connection import Connection
from engram.storage.inserting import insert_rows
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import statement

_SEPARATOR = "\x1f"
# A set of millions takes minutes; a pool's connections give up after one.
_PATIENCE_S = 1800.0


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a take-over or its undoing changed.

    Attributes:
        archived: memories that left.
        active: memories that came.
    """

    archived: int
    active: int


async def stage_all(
    connection: Connection, pairs: Sequence[tuple[Arriving, str]], job: UUID, now: datetime
) -> list[Decision]:
    """Stage the new rows of a set and note which old ones it keeps; nothing becomes visible.

    Args:
        connection: in a transaction.
        pairs: items of one job, each with who brings it.
        job: the import job they belong to.
        now: the moment of writing.
    """
    items = [item for item, _ in pairs]
    # A name that this set has staged already wins over the memory that holds it until then.
    named = dict(await knowing.by_external_id(connection, items))
    named |= dict(await knowing.staged_by_name(connection, items, job))
    arrivals = Arrivals(
        named.items(),
        await knowing.by_fold(connection, items, now),
        now,
        await knowing.by_id(connection, items),
    )
    decided = list(zip(pairs, decide_all(items, arrivals), strict=True))
    new = [entry for entry in decided if entry[1].kind in ("insert", "absorb")]
    if new:
        await insert_rows(connection, new, now, state="staged")
    await _note(connection, decided, job)
    return [decision for _, decision in decided]


async def _note(connection: Connection, decided: Sequence[Decided], job: UUID) -> None:
    rows = [row for entry in decided if (row := _noted(entry, job)) is not None]
    if rows:
        columns = map(list, zip(*rows, strict=True))
        await connection.execute(statement("write", "insert_import_items"), *columns)


def _noted(entry: Decided, job: UUID) -> tuple[Any, ...] | None:
    (item, _), decision = entry
    if decision.kind == "keep" and decision.target is not None:
        return item.workspace, job, decision.target.id, "kept", None, None
    if decision.kind not in ("insert", "absorb"):
        return None
    # A record whose survivor did not come with it is no longer live either way.
    alone = "superseded" if item.memory.state == "merged" else item.memory.state
    becomes = "merged" if decision.kind == "absorb" else alone
    key = item.external_key
    return item.workspace, job, item.id, "staged", becomes, name_sha256(key) if key else None


def name_sha256(key: ExternalKey) -> bytes:
    """Return what stands for an external id in the items of a job."""
    return hashlib.sha256(_SEPARATOR.join(key[1:]).encode()).digest()


async def take_over(
    connection: Connection, workspace: UUID, job: UUID, plan: Plan, actor: str, now: datetime
) -> TakenOver:
    """Make the staged set live and archive what it does not hold, in the caller's transaction.

    Rows are locked in ascending id. Vectors of what was archived stay until they are cleaned up:
    search leaves them out by state.
    """
    await _lock_namespace(connection, workspace, plan.namespace)
    old = await connection.fetch(
        statement("import", "archive_replaced"),
        *(workspace, job, plan.namespace, plan.source, now),
        timeout=_PATIENCE_S,
    )
    await connection.execute(
        statement("import", "note_archived"), workspace, job, _ids(old), timeout=_PATIENCE_S
    )
    await connection.execute(statement("import", "note_names"), workspace, job, timeout=_PATIENCE_S)
    new = await connection.fetch(
        statement("import", "activate_staged"), workspace, job, now, timeout=_PATIENCE_S
    )
    await connection.execute(statement("import", "take_names"), workspace, job, timeout=_PATIENCE_S)
    absorbed = await connection.fetch(
        statement("import", "born_merged"), workspace, job, timeout=_PATIENCE_S
    )
    await _insert_ledger(connection, workspace, absorbed, actor, now)
    live = [row for row in new if row["state"] == "active"]
    await _say(connection, workspace, "archived", old, now)
    await _say(connection, workspace, "created", live, now)
    return TakenOver(len(old), len(live))


async def replaced_since(connection: Connection, workspace: UUID, job: UUID) -> bool:
    """Say whether a later replacement has archived what this one brought."""
    sql = statement("import", "replaced_since")
    return bool(await connection.fetchval(sql, workspace, job, timeout=_PATIENCE_S))


async def restore(connection: Connection, workspace: UUID, job: UUID, now: datetime) -> TakenOver:
    """Undo a take-over: what it archived is live again, what it brought is archived.

    Memories that were changed by hand since keep their text; tombstones stay tombstones.
    """
    new = await connection.fetch(
        statement("import", "archive_taken"), workspace, job, now, timeout=_PATIENCE_S
    )
    old = await connection.fetch(
        statement("import", "activate_archived"), workspace, job, now, timeout=_PATIENCE_S
    )
    await connection.execute(
        statement("import", "return_names"), workspace, job, timeout=_PATIENCE_S
    )
    await connection.execute(statement("import", "restored"), workspace, job, now)
    await _say(connection, workspace, "archived", new, now)
    await _say(connection, workspace, "restored", old, now)
    return TakenOver(len(new), len(old))


async def _lock_namespace(connection: Connection, workspace: UUID, name: str | None) -> None:
    # Whoever writes to it now is either before the take-over, and archived, or after it.
    if name is not None:
        await connection.fetchval(statement("write", "lock_namespaces"), [workspace], [name])


async def _insert_ledger(
    connection: Connection,
    workspace: UUID,
    absorbed: Sequence[Any],
    actor: str,
    now: datetime,
) -> None:
    if not absorbed:
        return
    count, merges = len(absorbed), [uuid7() for _ in absorbed]
    await connection.execute(
        statement("write", "insert_merges"),
        [workspace] * count,
        merges,
        ["repeat"] * count,
        [row["merged_into"] for row in absorbed],
        [actor] * count,
        now,
    )
    await connection.execute(
        statement("write", "insert_merge_members"),
        [workspace] * count,
        merges,
        _ids(absorbed),
        [1] * count,
        [{"state": "active"}] * count,
    )


async def _say(
    connection: Connection, workspace: UUID, kind: EventKind, rows: Sequence[Any], now: datetime
) -> None:
    said = (Announcement(kind, workspace, row["id"], row["version"]) for row in rows)
    await announce(connection, said, now)


def _ids(rows: Sequence[Any]) -> list[UUID]:
    return [row["id"] for row in rows]
