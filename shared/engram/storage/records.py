"""Reads memories and renders them as the public record."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from engram.domain.arrival import Arriving
from engram.domain.filters import Condition
from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement

Record = dict[str, Any]
LISTED_STATES = ("active", "superseded", "merged", "archived")


async def by_ids(
    connection: Connection, workspace: UUID, ids: Sequence[UUID], space: int
) -> dict[UUID, Record]:
    """Return the records of these memories by id; deleted and unknown ones are absent."""
    sql = _with_columns(over_vectors("memory", "by_ids", space))
    rows = await connection.fetch(sql, workspace, list(ids))
    return {row["id"]: as_record(row) for row in rows}


async def page(
    connection: Connection,
    workspace: UUID,
    *,
    after: UUID,
    limit: int,
    states: Sequence[str],
    condition: Condition,
    space: int,
) -> list[Record]:
    """Return up to ``limit`` records with an id above ``after``, in order of id."""
    sql = _with_columns(over_vectors("memory", "page", space))
    where = condition.numbered_from(5)
    sql = sql.replace("{where}", f"AND {where}" if where else "")
    rows = await connection.fetch(sql, workspace, after, limit, list(states), *condition.arguments)
    return [as_record(row) for row in rows]


async def history(connection: Connection, workspace: UUID, memory_id: UUID) -> list[Record]:
    """Return every text a memory has had, oldest first; empty for an unknown one."""
    rows = await connection.fetch(statement("memory", "history"), workspace, memory_id)
    return [{**row, "at": as_time(row["at"])} for row in rows]


async def not_embedded(connection: Connection, workspace: UUID, ids: Sequence[UUID]) -> int:
    """Return how many of these live memories lack a current vector where they are read."""
    count = 0
    for space, some in (await _read_from(connection, workspace, ids)).items():
        sql = over_vectors("memory", "are_embedded", space)
        count += await connection.fetchval(sql, workspace, some)
    return count


async def as_read(
    connection: Connection, workspace: UUID, found: Sequence[Record], space: int
) -> None:
    """Let records say whether they are embedded in the space that their namespace reads.

    Args:
        connection: in a transaction about the workspace.
        workspace: theirs.
        found: records that say it of ``space`` so far; changed in place.
        space: the one the workspace reads by default.
    """
    ids = [UUID(str(record["id"])) for record in found]
    for own, some in (await _read_from(connection, workspace, ids)).items():
        if own != space:
            rows = await connection.fetch(over_vectors("export", "current", own), workspace, some)
            current = {str(row["id"]) for row in rows}
            here = {str(one) for one in some}
            for record in found:
                if str(record["id"]) in here:
                    record["embedded"] = str(record["id"]) in current


async def _read_from(
    connection: Connection, workspace: UUID, ids: Sequence[UUID]
) -> dict[int, list[UUID]]:
    rows = await connection.fetch(statement("memory", "read_from"), workspace, list(ids))
    return {row["space"]: row["ids"] for row in rows}


def _with_columns(sql: str) -> str:
    return sql.replace("{columns}", statement("memory", "columns"))


def as_record(row: asyncpg.Record) -> Record:
    """Return the public JSON shape of a row (api.md, memory record)."""
    return {
        "id": str(row["id"]),
        "namespace": row["namespace"],
        "content": row["content"],
        "version": row["version"],
        "state": row["state"],
        "user_id": row["user_id"],
        "agent_id": row["agent_id"],
        "session_id": row["session_id"],
        "app_id": row["app_id"],
        "metadata": row["metadata"],
        "categories": row["categories"],
        "importance": row["importance"],
        "pinned": row["pinned"],
        "source": row["source"],
        "external_id": row["external_id"],
        "merged_into": str(row["merged_into"]) if row["merged_into"] else None,
        "created_at": as_time(row["created_at"]),
        "updated_at": as_time(row["updated_at"]),
        "expires_at": as_time(row["expires_at"]),
        "valid_until": as_time(row["valid_until"]),
        "last_accessed_at": as_time(row["last_accessed_at"]),
        "access_count": row["access_count"],
        "embedded": row["embedded"],
    }


def new_record(item: Arriving, merged_into: UUID | None) -> Record:
    """Return the record of a memory that was just inserted; its times are set by then."""
    memory = item.memory
    return {
        "id": str(item.id),
        "namespace": memory.namespace,
        "content": memory.content,
        "version": 1,
        "state": "merged" if merged_into else memory.state,
        "user_id": memory.user_id,
        "agent_id": memory.agent_id,
        "session_id": memory.session_id,
        "app_id": memory.app_id,
        "metadata": memory.metadata,
        "categories": memory.categories,
        "importance": memory.importance,
        "pinned": memory.pinned,
        "source": memory.source,
        "external_id": memory.external_id,
        "merged_into": str(merged_into) if merged_into else None,
        "created_at": as_time(item.created_at),
        "updated_at": as_time(item.updated_at),
        "expires_at": as_time(memory.expires_at),
        "valid_until": as_time(memory.valid_until),
        "last_accessed_at": as_time(memory.last_accessed_at),
        "access_count": memory.access_count,
        "embedded": False,
    }


def as_time(instant: datetime | None) -> str | None:
    """Return an instant as RFC 3339 in UTC, ``…Z``."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
