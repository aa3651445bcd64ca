"""API keys and workspaces in the database; every change of a key is audited."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from engram.domain.keys import ApiKey, make_key
from engram.storage import auditing
from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.records import as_time


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A live key as found by its id."""

    id: str
    workspace: UUID
    workspace_name: str
    secret_sha256: bytes
    scopes: tuple[str, ...]


async def find_key(connection: Connection, key_id: str) -> StoredKey | None:
    """Return the key with this id unless it is unknown, revoked or expired."""
    row = await connection.fetchrow(statement("key", "find"), key_id)
    if row is None:
        return None
    return StoredKey(
        row["id"],
        row["workspace"],
        row["workspace_name"],
        row["secret_sha256"],
        tuple(row["scopes"]),
    )


async def create_key(
    connection: Connection,
    workspace: UUID,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
    actor: str,
) -> tuple[ApiKey, dict[str, Any]]:
    """Create a key and return it in the clear, once, with its public description."""
    key = make_key(secrets.token_bytes(40))
    row = await connection.fetchrow(
        statement("key", "insert"), key.id, workspace, name, key.sha256, list(scopes), expires_at
    )
    counts = {"scopes": len(scopes)}
    await auditing.record(
        connection, auditing.Entry(workspace, actor, "key.created", key.id, counts)
    )
    return key, _described(row)


async def list_keys(
    connection: Connection, workspace: UUID, after: str, limit: int
) -> list[dict[str, Any]]:
    """Return the keys of a workspace, without their secrets, in order of id."""
    rows = await connection.fetch(statement("key", "list"), workspace, after, limit)
    return [_described(row) for row in rows]


async def revoke_key(
    connection: Connection, workspace: UUID, key_id: str, actor: str
) -> dict[str, Any] | None:
    """Revoke a key; None when the workspace has no such key."""
    row = await connection.fetchrow(statement("key", "revoke"), workspace, key_id)
    if row is None:
        return None
    await auditing.record(connection, auditing.Entry(workspace, actor, "key.revoked", key_id))
    return _described(row)


def _described(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "scopes": row["scopes"],
        "created_at": as_time(row["created_at"]),
        "expires_at": as_time(row["expires_at"]),
        "revoked_at": as_time(row["revoked_at"]),
    }


async def ensure_workspace(connection: Connection, name: str, space: int) -> UUID:
    """Return the id of the workspace with this name, making it if need be."""
    await connection.execute(statement("space", "insert_workspace"), uuid7(), name, space)
    [row] = await connection.fetch(statement("key", "workspace"), name)
    workspace: UUID = row["id"]
    return workspace
