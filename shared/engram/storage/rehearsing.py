"""A dry run of an import job: decides like a real one and keeps digests of what would be stored."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import orjson

from engram.domain.arrival import (
    Arrivals,
    Arriving,
    Decision,
    ExternalKey,
    FoldKey,
    Known,
    Plan,
    decide_all,
)
from engram.domain.revising import fields_of
from engram.storage import knowing
from engram.storage.connection import Connection
from engram.storage.queries import statement

# The value of a mark that stands for a memory which a replaced set keeps.
_KEPT = b"\x01"
Key = TypeVar("Key")


async def rehearse_batch(
    connection: Connection, items: Sequence[Arriving], job: UUID, now: datetime
) -> list[Decision]:
    """Return what would become of a batch, and remember it for the batches that follow.

    Memories are only read. What earlier batches would have stored is known by its digests, so that
    a file of any size is rehearsed in bounded memory and goes on after a crash.

    Args:
        connection: in a transaction.
        items: of one job.
        job: the import job they belong to.
        now: the moment that decides what has expired.
    """
    if not items:
        return []
    marks = await _marks(connection, items, job)
    arrivals = Arrivals(
        _overlaid(
            await knowing.by_external_id(connection, items),
            ((key, _named(item, marks)) for item in items if (key := item.external_key)),
        ),
        _overlaid(
            await knowing.by_fold(connection, items, now),
            ((item.fold_key, _folded(item, marks)) for item in items),
        ),
        now,
        await knowing.by_id(connection, items),
    )
    decisions = decide_all(items, arrivals)
    await _remember(connection, items, decisions, job)
    return decisions


async def would_archive(connection: Connection, workspace: UUID, job: UUID, plan: Plan) -> int:
    """Return how many memories a rehearsed replacement would archive."""
    sql = statement("import", "would_archive")
    return int(await connection.fetchval(sql, workspace, job, plan.namespace, plan.source))


def _overlaid(
    stored: Iterable[tuple[Key, Known]], rehearsed: Iterable[tuple[Key, Known | None]]
) -> Iterable[tuple[Key, Known]]:
    found = dict(stored)
    seen: set[Key] = set()
    for key, known in rehearsed:
        if known is not None and key not in seen:
            found[key] = known
        seen.add(key)
    return found.items()


async def _marks(
    connection: Connection, items: Sequence[Arriving], job: UUID
) -> dict[bytes, bytes]:
    keys = {_name_key(key) for item in items if (key := item.external_key)}
    keys |= {_fold_mark(item.fold_key) for item in items}
    rows = await connection.fetch(statement("import", "marks"), items[0].workspace, job, list(keys))
    return {row["key"]: row["value"] for row in rows}


def _named(item: Arriving, marks: dict[bytes, bytes]) -> Known | None:
    key = item.external_key
    value = marks.get(_name_key(key)) if key else None
    if value is None:
        return None
    m = item.memory
    same = value == _name_value(item)
    # Only that it differs is known of the other one, and that is all a merge asks.
    fields = fields_of(m) if same else {}
    return Known(item.id, 1, m.state, value[:32], fields, m.namespace, m.source, staged=True)


def _folded(item: Arriving, marks: dict[bytes, bytes]) -> Known | None:
    if _fold_mark(item.fold_key) not in marks:
        return None
    return Known(item.id, 1, "active", item.sha256)


async def _remember(
    connection: Connection, items: Sequence[Arriving], decisions: Sequence[Decision], job: UUID
) -> None:
    marks: dict[bytes, bytes] = {}
    for item, decision in zip(items, decisions, strict=True):
        if decision.kind == "keep" and decision.target:
            marks[b"k" + decision.target.id.bytes] = _KEPT
        if decision.kind in ("insert", "absorb", "update", "keep") and item.external_key:
            marks[_name_key(item.external_key)] = _name_value(item)
        if decision.kind in ("insert", "keep") and item.memory.state == "active":
            marks[_fold_mark(item.fold_key)] = b""
    if marks:
        await connection.execute(
            statement("import", "set_marks"),
            *(items[0].workspace, job, list(marks), list(marks.values())),
        )


def _name_key(key: ExternalKey) -> bytes:
    return b"n" + hashlib.sha256("\x1f".join(key[1:]).encode()).digest()


def _fold_mark(key: FoldKey) -> bytes:
    _, namespace, owners, fold = key
    return b"f" + hashlib.sha256(orjson.dumps([namespace, *owners]) + fold).digest()


def _name_value(item: Arriving) -> bytes:
    said = {**fields_of(item.memory), "state": item.memory.state}
    return item.sha256 + hashlib.sha256(orjson.dumps(said)).digest()[:16]
