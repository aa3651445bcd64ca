"""Reads the ledger of merges: what was absorbed by what, when, by whom, and what was undone."""

from typing import Any
from uuid import UUID

import asyncpg

from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.records import as_time
from engram.storage.undoing import unknown_merge

MAX_MEMBERS = 500
_START = UUID(int=0)


async def page(
    connection: Connection,
    workspace: UUID,
    *,
    before: UUID,
    run_id: UUID | None,
    memory_id: UUID | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return up to ``limit`` merges below the id ``before``, newest first, in their public shape.

    Args:
        connection: sees the workspace.
        workspace: whose merges.
        before: where the page before ended.
        run_id: only of this run.
        memory_id: only those that this memory survived, or was absorbed by.
        limit: most merges returned.
    """
    name = "page" if memory_id is None else "page_of_memory"
    named = [] if memory_id is None else [memory_id]
    rows = await connection.fetch(
        statement("merge", name), workspace, before, run_id, limit, *named
    )
    return [_merge(row) for row in rows]


async def show(
    connection: Connection, workspace: UUID, merge_id: UUID, after: UUID = _START
) -> dict[str, Any]:
    """Return a merge with the text that survived and its members above the id ``after``, by id.

    One more than `MAX_MEMBERS` at most: that one tells that there are more.

    Raises:
        NotFoundError: there is no such merge.
    """
    row = await connection.fetchrow(statement("merge", "show"), workspace, merge_id)
    if row is None:
        raise unknown_merge()
    found = await connection.fetch(
        statement("merge", "members"), workspace, merge_id, after, MAX_MEMBERS + 1
    )
    return {
        **_merge(row),
        "content": row["content"],
        "members": [_member(member) for member in found],
    }


def _merge(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "survivor": str(row["survivor"]),
        "member_count": row["member_count"],
        "run_id": str(row["run_id"]) if row["run_id"] else None,
        "reason": row["reason"],
        "rule_version": row["rule_version"],
        "actor": row["actor"],
        "created_at": as_time(row["created_at"]),
        "undone_at": as_time(row["undone_at"]),
    }


def _member(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "memory_id": str(row["memory_id"]),
        "version": row["version"],
        "cosine": None if row["cosine"] is None else round(row["cosine"], 6),
        "guard": row["evidence"],
        "state": row["state"] or "deleted",
        "content": row["content"],
        "undone_at": as_time(row["undone_at"]),
        "undone_by": row["undone_by"],
    }
