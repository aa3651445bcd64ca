"""How spaces and migrations are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from engram.storage.migrating import Migration
from engram.storage.records import as_time
from engram.storage.spaces import Space


def shown_migration(migration: Migration, states: Mapping[Any, int]) -> dict[str, Any]:
    """Return a migration in its public shape."""
    return {
        "id": str(migration.id),
        "phase": migration.phase,
        "paused": migration.paused,
        "source": migration.source_key,
        "target": migration.target_key,
        "source_space": migration.source_space,
        "target_space": migration.target_space,
        "workspaces": _ids(migration.workspaces),
        "actor": migration.actor,
        "options": {k: v for k, v in migration.options.items() if k != "judged"},
        "plan": migration.plan,
        "progress": migration.progress,
        "namespaces": dict(states),
        "verdict": migration.verdict,
        "wish": migration.wish["verb"] if migration.wish else None,
        "error": migration.error,
        "held": migration.held,
        "phases": migration.phases,
        "created_at": as_time(migration.created_at),
        "updated_at": as_time(migration.updated_at),
    }


def shown_namespace(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one namespace of a migration in its public shape."""
    return {
        "workspace": str(row["workspace"]),
        "namespace": row["namespace"],
        "state": row["state"],
        "rows": row["rows"],
        "missing": row["missing"],
        "dead": row["dead"],
        "verdict": row["verdict"],
        "updated_at": as_time(row["updated_at"]),
    }


def shown_mismatch(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a memory that the target's provider gave up in its public shape."""
    return {
        "workspace": str(row["workspace"]),
        "namespace": row["namespace"],
        "memory_id": str(row["memory_id"]),
        "version": row["version"],
        "class": row["class"],
        "error": row["error"],
    }


def shown_space(space: Space, size: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space in its public shape."""
    return {
        "id": space.id,
        "key": space.spec.key,
        "provider": space.spec.provider,
        "model": space.spec.model,
        "dimensions": space.spec.dimensions,
        "embeds_with": space.embeds_with or space.spec.model,
        "state": "active" if space.active else "retired",
        "workspaces": _ids(sorted(space.workspaces) if space.workspaces is not None else None),
        "workspaces_reading": size["workspaces_reading"],
        "namespaces_reading": size["namespaces_reading"],
        "vectors": max(0, size["about_rows"]),
        "table_bytes": size["table_bytes"],
        "index_bytes": size["index_bytes"],
        "created_at": as_time(size["created_at"]),
    }


def _ids(workspaces: Sequence[UUID] | None) -> list[str] | None:
    return None if workspaces is None else [str(workspace) for workspace in workspaces]
