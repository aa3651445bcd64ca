"""AgentMemory's ExportData of version 0.9 (formats.md 1k): memories, and their access logs.

What AgentMemory has no field for lies in further fields of a memory (`userId`, `metadata`).
"""

from datetime import datetime
from typing import Any

from engram.exporters.shape import Row, Section, Shape, text_of

_VERSION = "0.9.29"
_TYPES = frozenset({"pattern", "preference", "architecture", "bug", "workflow", "fact"})
_TITLE_CHARACTERS = 80


def memory(row: Row) -> dict[str, Any]:
    """Return one memory; a superseded one is said not to be the latest."""
    metadata = dict(row["metadata"])
    kind = metadata.pop("type") if metadata.get("type") in _TYPES else "fact"
    line = {
        "id": memory_id(row),
        "createdAt": text_of(row["created_at"]),
        "updatedAt": text_of(row["updated_at"]),
        "type": kind,
        "title": _title(row["content"]),
        "content": row["content"],
        "concepts": row["categories"],
        "files": [],
        "sessionIds": [row["session_id"]] if row["session_id"] else [],
        "strength": round(row["importance"] * 10, 6),
        "version": 1,
        "isLatest": row["state"] == "active",
    }
    further = {
        "forgetAfter": text_of(row["expires_at"]),
        "agentId": row["agent_id"],
        "project": row["app_id"],
        "userId": row["user_id"],
        "metadata": metadata or None,
    }
    return line | {name: value for name, value in further.items() if value is not None}


def access_log(row: Row) -> dict[str, Any] | None:
    """Return how often a memory was read; None when it never was."""
    if not row["access_count"]:
        return None
    last = row["last_accessed_at"]
    log = {"memoryId": memory_id(row), "count": row["access_count"], "recent": []}
    return log | ({"lastAt": text_of(last)} if last else {})


def memory_id(row: Row) -> str:
    """Return the id AgentMemory gave it when it came from there, else ours."""
    named = row["source"] == "agentmemory" and row["external_id"]
    return str(named or row["id"])


def _title(content: str) -> str:
    first = content.strip().splitlines()[0]
    if len(first) <= _TITLE_CHARACTERS:
        return first
    return first[: _TITLE_CHARACTERS - 1].rstrip() + "…"


def _opening(began: datetime) -> str:
    return (
        f'{{"version":"{_VERSION}","exportedAt":"{text_of(began)}",'
        '"sessions":[],"observations":{},"summaries":[],'
    )


SHAPE = Shape(
    name="agentmemory",
    media_type="application/json",
    ending="json",
    states=("active", "superseded"),
    opening=_opening,
    sections=(Section('"memories":[', memory), Section('],"accessLogs":[', access_log)),
    between=",\n",
    closing="]}\n",
)
