"""mem0's shape: what its `get_all` returns, with the Platform's further fields (formats.md 1a, 1c).

Only active memories: mem0 takes whatever it is given for true.
"""

import hashlib
from datetime import date, datetime, timedelta
from typing import Any

from engram.domain.memory import namespace_of
from engram.exporters.shape import Row, Section, Shape, text_of

_OWNERS = (("user_id", "user_id"), ("agent_id", "agent_id"), ("run_id", "session_id"))
_MOMENT = timedelta(microseconds=1)


def element(row: Row) -> dict[str, Any]:
    """Return one memory as mem0 lists it."""
    line = {
        "id": row["external_id"]
        if row["source"] == "mem0" and row["external_id"]
        else str(row["id"]),
        "memory": row["content"],
        # What mem0 knows equal texts by; no secret hangs on it.
        "hash": hashlib.md5(row["content"].encode(), usedforsecurity=False).hexdigest(),
        "created_at": text_of(row["created_at"]),
        "updated_at": text_of(row["updated_at"]),
        **{name: row[own] for name, own in (*_OWNERS, ("app_id", "app_id")) if row[own]},
    }
    if metadata := _metadata(row):
        line["metadata"] = metadata
    if row["categories"]:
        line["categories"] = row["categories"]
    if row["expires_at"]:
        line["expiration_date"] = last_day(row["expires_at"]).isoformat()
    return line


def _metadata(row: Row) -> dict[str, Any]:
    """Return the metadata; a namespace that the owner ids do not tell is kept there."""
    owners = namespace_of(row["user_id"], row["agent_id"], row["session_id"], row["app_id"])
    if row["namespace"] == owners or "namespace" in row["metadata"]:
        return dict(row["metadata"])
    return {**row["metadata"], "namespace": row["namespace"]}


def last_day(expires_at: datetime) -> date:
    """Return the last day on which a memory lives: mem0 forgets it at the end of that day (UTC).

    mem0 has days only, so a memory that ends at noon ends at the midnight after it.
    """
    return (expires_at - _MOMENT).date()


SHAPE = Shape(
    name="mem0",
    media_type="application/json",
    ending="json",
    states=("active",),
    opening=lambda _: '{"results":[',
    sections=(Section("", element),),
    between=",\n",
    closing="]}\n",
)
