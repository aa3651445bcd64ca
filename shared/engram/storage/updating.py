"""Changes what a merge found different: the old text is kept, the version raised, all announced."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from engram.domain.arrival import Arriving, Decided, Decision
from engram.events import EventKind
from engram.storage.connection import Connection
from engram.storage.contention import LostRaceError
from engram.storage.inserting import array_literal
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import over_vectors, statement

_Update = tuple[Arriving, str, Decision]


async def update_all(connection: Connection, decided: Sequence[Decided], now: datetime) -> None:
    """Carry out the ``update`` decisions of a batch, in order.

    Raises:
        LostRaceError: a memory changed since it was compared.
    """
    waiting = [(item, actor, d) for (item, actor), d in decided if d.kind == "update"]
    while waiting:
        # One that is changed twice in a batch is changed one time after the other.
        now_done: dict[UUID, _Update] = {}
        later: list[_Update] = []
        for update in waiting:
            target = _target(update)
            if target in now_done:
                later.append(update)
            else:
                now_done[target] = update
        await _update(connection, list(now_done.values()), now)
        waiting = later


def _target(update: _Update) -> UUID:
    target = update[2].target
    if target is None:  # pragma: no cover - the domain gives every update its target
        raise ValueError(update[0].id)
    return target.id


async def _update(connection: Connection, updates: Sequence[_Update], now: datetime) -> None:
    workspaces = [item.workspace for item, _, _ in updates]
    ids = [_target(update) for update in updates]
    versions = [d.target.version for _, _, d in updates if d.target]
    locked = await connection.fetch(
        statement("write", "lock_for_update"), workspaces, ids, versions
    )
    if len(locked) < len(updates):
        raise LostRaceError
    said_new = [u for u in updates if "content" in (u[2].changes or {})]
    if said_new:
        await connection.execute(statement("write", "keep_revisions"), *_named(said_new))
    columns = list(zip(*(_row(update, now) for update in updates), strict=True))
    await connection.execute(statement("write", "update_memories"), *columns, now)
    before = {row["id"]: row["state"] for row in locked}
    await _follow_states(connection, updates, before, now)
    await _note(connection, updates)
    await announce(connection, (_said(update) for update in updates), now)


def _row(update: _Update, now: datetime) -> tuple[Any, ...]:
    item, actor, decision = update
    changes = decision.changes or {}
    content = changes.get("content")
    categories = changes.get("categories")
    updated_at = item.updated_at if "updated_at" in item.given else now
    return (
        item.workspace,
        _target(update),
        content,
        None if content is None else item.sha256,
        None if content is None else item.fold,
        changes.get("metadata"),
        None if categories is None else array_literal(categories),
        changes.get("importance"),
        changes.get("pinned"),
        changes.get("expires_at"),
        changes.get("valid_until"),
        changes.get("state"),
        updated_at,
        actor,
    )


async def _follow_states(
    connection: Connection, updates: Sequence[_Update], before: dict[UUID, str], now: datetime
) -> None:
    """Undo the absorption of what speaks for itself again; drop vectors of what fell silent.

    Memory rows have changed in an earlier statement: the other order leaves orphans.
    """
    moved = [u for u in updates if "state" in (u[2].changes or {})]
    alone = [u for u in moved if before[_target(u)] == "merged"]
    if alone:
        await connection.execute(statement("write", "leave_survivors"), *_named(alone), now)
    silent = [u for u in moved if before[_target(u)] == "active"]
    if silent:
        await clear_vectors(connection, *_named(silent))


async def clear_vectors(
    connection: Connection, workspaces: Sequence[UUID], ids: Sequence[UUID]
) -> None:
    """Delete the vectors of these memories in every space."""
    for row in await connection.fetch(statement("write", "spaces_to_clear")):
        sql = over_vectors("write", "clear_vectors", row["id"])
        await connection.execute(sql, list(workspaces), list(ids))


async def _note(connection: Connection, updates: Sequence[_Update]) -> None:
    """Note for an import job which memories it changed: their own rows cannot tell."""
    of_jobs = [(u[0].plan.job, u) for u in updates if u[0].plan.job is not None]
    if of_jobs:
        workspaces, ids = _named([update for _, update in of_jobs])
        count = len(of_jobs)
        await connection.execute(
            statement("write", "insert_import_items"),
            workspaces,
            [job for job, _ in of_jobs],
            ids,
            ["updated"] * count,
            [None] * count,
            [None] * count,
        )


def _named(updates: Sequence[_Update]) -> tuple[list[UUID], list[UUID]]:
    return [item.workspace for item, _, _ in updates], [_target(update) for update in updates]


def _said(update: _Update) -> Announcement:
    item, _, decision = update
    changes = decision.changes or {}
    version = (decision.target.version if decision.target else 1) + ("content" in changes)
    state = changes.get("state")
    kind: EventKind = "archived" if state == "archived" else "updated"
    return Announcement(kind, item.workspace, _target(update), version)
