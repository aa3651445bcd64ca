"""Changes to one memory: PATCH keeps the texts it has had, DELETE erases, leaving a tombstone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from engram.domain.memory import content_hash, fold_hash
from engram.errors import ConflictError, NotFoundError, PreconditionError
from engram.storage import auditing
from engram.storage.connection import Connection
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import over_vectors, statement

_COLUMNS = {
    "metadata": "jsonb",
    "categories": "text[]",
    "importance": "float8",
    "pinned": "boolean",
    "expires_at": "timestamptz",
    "valid_until": "timestamptz",
}

# What else holds the text of a memory, quotes it, or answers with it.
_ERASURES = (
    "erase_revisions",
    "erase_failures",
    "erase_images",
    "erase_evidence",
    "erase_proposals",
    "erase_conflicts",
    "erase_answers",
)


def unknown_memory() -> NotFoundError:
    """Return the one answer for unknown, deleted and foreign ids."""
    return NotFoundError(
        "memory_not_found", "There is no such memory.", cure="Check the id and the API key."
    )


async def change_memory(
    connection: Connection,
    workspace: UUID,
    memory_id: UUID,
    changes: Mapping[str, Any],
    *,
    if_version: int | None,
    actor: str,
    now: datetime,
) -> int:
    """Apply a checked patch and return the version the memory now has.

    Raises:
        NotFoundError: unknown, deleted, or of another workspace.
        PreconditionError: the memory has another version than ``if_version``.
        ConflictError: the content of a merged memory cannot change, or the new external id is
            taken.
    """
    row = await _locked(connection, workspace, memory_id, if_version)
    version = int(row["version"])
    content = changes.get("content")
    if content is not None and content != row["content"]:
        if row["state"] == "merged":
            raise ConflictError(
                "merged_memory",
                "The memory was absorbed by another one; its text cannot change.",
                cure="Change the memory named in merged_into, or create a new one.",
            )
        version = await _change_content(connection, workspace, memory_id, content, actor, now)
    columns = {name: value for name, value in changes.items() if name in _COLUMNS}
    if columns:
        await _change_columns(connection, workspace, memory_id, columns, now)
    await announce(connection, [Announcement("updated", workspace, memory_id, version)], now)
    return version


async def _locked(
    connection: Connection, workspace: UUID, memory_id: UUID, if_version: int | None
) -> asyncpg.Record:
    row = await connection.fetchrow(statement("memory", "lock"), workspace, memory_id)
    if row is None or row["state"] in ("deleted", "staged"):
        raise unknown_memory()
    _check_version(row["version"], if_version)
    return row


def _check_version(version: int | None, wanted: int | None) -> None:
    if version is None:
        raise unknown_memory()
    if wanted is not None and version != wanted:
        raise PreconditionError(
            "version_mismatch",
            f"The memory has version {version}, not {wanted}.",
            cure="Read it again and repeat the change on what you find.",
        )


async def _change_content(
    connection: Connection,
    workspace: UUID,
    memory_id: UUID,
    content: str,
    actor: str,
    now: datetime,
) -> int:
    await connection.execute(statement("memory", "keep_revision"), workspace, memory_id)
    return int(
        await connection.fetchval(
            statement("memory", "change_content"),
            workspace,
            memory_id,
            content,
            content_hash(content),
            fold_hash(content),
            now,
            actor,
        )
    )


async def _change_columns(
    connection: Connection,
    workspace: UUID,
    memory_id: UUID,
    columns: Mapping[str, Any],
    now: datetime,
) -> None:
    # Names come from _COLUMNS, values are bound.
    sets = ", ".join(
        f"{name} = ${number}::{_COLUMNS[name]}" for number, name in enumerate(columns, 4)
    )
    await connection.execute(
        f"UPDATE engram.memory SET {sets}, updated_at = $3 WHERE workspace = $1 AND id = $2",
        workspace,
        memory_id,
        now,
        *columns.values(),
    )


async def delete_memory(
    connection: Connection,
    workspace: UUID,
    memory_id: UUID,
    *,
    if_version: int | None,
    actor: str,
    now: datetime,
) -> int:
    """Erase a memory and what it absorbed, everywhere; return how many tombstones that made.

    Memory rows first, vectors in later statements of the same READ COMMITTED transaction: any
    other order lets a vector that is being written right now survive its memory.

    Raises:
        NotFoundError: unknown, deleted, or of another workspace.
        PreconditionError: the memory has another version than ``if_version``.
    """
    family = await _locked_family(connection, workspace, memory_id)
    ids = [row["id"] for row in family]
    version = next((row["version"] for row in family if row["id"] == memory_id), None)
    _check_version(version, if_version)
    gone = await connection.fetch(statement("memory", "erase"), workspace, ids, now, actor)
    for name in _ERASURES:
        await connection.execute(statement("memory", name), workspace, ids)
    # Asked for now, under the lock: a list from before may lack a space that has a vector by now.
    for row in await connection.fetch(statement("write", "spaces_to_clear")):
        sql = over_vectors("memory", "erase_vectors", row["id"])
        await connection.execute(sql, workspace, ids)
    await announce(
        connection,
        (Announcement("deleted", workspace, row["id"], row["version"]) for row in gone),
        now,
    )
    counts = {"memories": len(gone)}
    await auditing.record(
        connection,
        auditing.Entry(workspace, actor, "memory.deleted", str(memory_id), counts),
    )
    return len(gone)


async def _locked_family(
    connection: Connection, workspace: UUID, memory_id: UUID
) -> list[asyncpg.Record]:
    """Lock a memory and all it absorbed; looked at again, since one may join while we wait."""
    family: list[asyncpg.Record] = []
    while True:
        found = await connection.fetch(
            statement("memory", "lock_with_absorbed"), workspace, memory_id
        )
        if len(found) <= len(family):
            return found
        family = found


def taken_external_id() -> ConflictError:
    """Return the error for an external id that names another memory."""
    return ConflictError(
        "external_id_taken",
        "A memory with this source and external_id exists with other content.",
        cure="Change that memory with PATCH, or use another external_id.",
    )
