"""Looks up what the store already holds of a batch: by external id, and by equal text."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from engram.domain.arrival import Arriving, ExternalKey, FoldKey, Known
from engram.domain.revising import REVISED
from engram.storage.columns import filled_columns
from engram.storage.connection import Connection
from engram.storage.queries import statement


async def by_external_id(
    connection: Connection, items: Sequence[Arriving]
) -> list[tuple[ExternalKey, Known]]:
    """Return the memory behind each external id; with its fields where a strategy compares them."""
    found: list[tuple[ExternalKey, Known]] = []
    for name, compared in (("known_by_external_id", False), ("known_in_full", True)):
        keys = {
            key
            for item in items
            if (item.strategy in ("merge", "replace")) is compared and (key := item.external_key)
        }
        if keys:
            rows = await connection.fetch(statement("write", name), *filled_columns([*keys]))
            found += [
                ((row["workspace"], row["source"], row["external_id"]), _known(row, full=compared))
                for row in rows
            ]
    return found


async def staged_by_name(
    connection: Connection, items: Sequence[Arriving], job: UUID
) -> list[tuple[ExternalKey, Known]]:
    """Return what a job has staged already under the external ids of a batch."""
    keys = sorted({key for item in items if (key := item.external_key)})
    if not keys:
        return []
    columns = map(list, zip(*keys, strict=True))
    rows = await connection.fetch(statement("write", "staged_by_name"), *columns, job)
    return [
        ((row["workspace"], row["source"], row["external_id"]), _known(row, full=True))
        for row in rows
    ]


async def by_fold(
    connection: Connection, items: Sequence[Arriving], now: datetime
) -> list[tuple[FoldKey, Known]]:
    """Return the live or archived memory that each item would repeat."""
    live = [item for item in items if item.memory.state == "active" and item.memory.id is None]
    staging = [item for item in live if item.strategy == "replace"]
    if staging and staging[0].plan.job is not None:
        rows = await _staged_by_fold(connection, staging, staging[0].plan.job)
        return [(_fold_key(row), _known(row, full=False)) for row in rows]
    if not live:
        return []
    texts = filled_columns([(item.workspace, item.fold) for item in live])
    rows = await connection.fetch(statement("write", "known_by_fold"), *texts, now)
    return [(_fold_key(row), _known(row, full=False)) for row in rows]


async def by_id(
    connection: Connection, items: Sequence[Arriving]
) -> list[tuple[tuple[UUID, UUID], Known]]:
    """Return the memory behind each id that a record of another engram names."""
    found: list[tuple[tuple[UUID, UUID], Known]] = []
    for name, compared in (("known_by_id", False), ("known_by_id_in_full", True)):
        named = sorted(
            {
                (item.workspace, one)
                for item in items
                if (item.strategy in ("merge", "replace")) is compared
                for one in item.named_ids
            }
        )
        if named:
            columns = map(list, zip(*named, strict=True))
            rows = await connection.fetch(statement("write", name), *columns)
            found += [((row["workspace"], row["id"]), _known(row, full=compared)) for row in rows]
    return found


async def _staged_by_fold(
    connection: Connection, items: Sequence[Arriving], job: UUID
) -> list[asyncpg.Record]:
    # A replaced set folds within itself: what it repeats of the old one is about to leave.
    return await connection.fetch(
        statement("write", "staged_by_fold"),
        [item.workspace for item in items],
        [item.fold for item in items],
        job,
    )


def _fold_key(row: asyncpg.Record) -> FoldKey:
    owners = (row["user_id"], row["agent_id"], row["session_id"], row["app_id"])
    return row["workspace"], row["namespace"], owners, row["fold_hash"]


def _known(row: asyncpg.Record, *, full: bool) -> Known:
    plain = (row["id"], row["version"], row["state"], row["content_sha256"])
    if not full:
        return Known(*plain)
    fields: dict[str, Any] = {name: row[name] for name in REVISED}
    return Known(
        *plain,
        fields,
        row["namespace"],
        row["memory_source"],
        row["merged_into"],
        staged=row["state"] == "staged",
    )
