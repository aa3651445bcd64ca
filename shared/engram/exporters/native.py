"""engram's own shape: one record a line, with all that makes it the same memory elsewhere."""

from typing import Any

from engram.exporters.shape import ALL_STATES, Row, Section, Shape, text_of

_AS_IT_STANDS = ("namespace", "content", "state", "user_id", "agent_id", "session_id", "app_id")
_AS_IT_STANDS_TOO = ("metadata", "categories", "importance", "pinned", "source", "external_id")
_TIMES = ("created_at", "updated_at", "expires_at", "valid_until", "last_accessed_at")


def element(row: Row) -> dict[str, Any]:
    """Return one line: the public record without what only this store's copy of it has.

    Left out are ``version`` and history, which count the changes made here, and ``embedded``
    unless the row has it, because vectors are made anew.
    """
    line = {
        "id": str(row["id"]),
        **{name: row[name] for name in (*_AS_IT_STANDS, *_AS_IT_STANDS_TOO)},
        "merged_into": str(row["merged_into"]) if row["merged_into"] else None,
        **{name: text_of(row[name]) for name in _TIMES},
        "access_count": row["access_count"],
        "reinforced_at": text_of(row["reinforced_at"]),
    }
    if "embedded" in row:
        line["embedded"] = row["embedded"]
    return line


SHAPE = Shape(
    name="native",
    media_type="application/x-ndjson",
    ending="ndjson",
    states=ALL_STATES,
    opening=lambda _: "",
    sections=(Section("", element),),
    between="\n",
    closing="\n",
)
