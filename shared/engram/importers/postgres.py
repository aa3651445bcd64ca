"""Rows of somebody's own table: json_agg, row_to_json lines, CSV with a header."""

from typing import Any

from engram.importers.record import Element, Warnings
from engram.importers.rows import Row, is_absent, parsed
from engram.importers.shape import Format, Head

TEXT_COLUMNS = ("content", "text", "memory", "fact", "body", "value", "data", "payload")
_TEXTS = ("content", "text", "memory", "fact", "body", "value")
_IDS = ("external_id", "id", "uuid", "memory_id")
_TIMES = ("created_at", "updated_at", "expires_at", "valid_until", "last_accessed_at")
_OWN_OWNERS = frozenset({"owner", "namespace"})
_MEM0_OWNERS = frozenset({"user_id", "agent_id", "run_id", "hash"})
_OWNER_OF_PREFIX = {
    "user": "user_id",
    "agent": "agent_id",
    "session": "session_id",
    "app": "app_id",
}


def _matches(head: Head) -> int:
    score = 0
    for row in head.rows:
        if any(isinstance(row.get(name, {}), str | None) for name in _TEXTS):
            score += 3 if head.copied or head.kind == "csv" else 2
            score += 3 if _is_own_table(row) else 0
    return score


def _is_own_table(row: dict[str, Any]) -> bool:
    """Say whether a row with a column ``memory`` has owners that mem0 does not write."""
    return "memory" in row and not _OWN_OWNERS.isdisjoint(row) and _MEM0_OWNERS.isdisjoint(row)


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "postgres", warnings)
    row.content(_TEXTS)
    row.owners(element.owner)
    row.owner("user_id", "owner")
    _namespace(row)
    row.external_id(_IDS)
    row.times(_TIMES)
    for name in ("categories", "tags"):
        row.put_back(name, parsed(row.pop(name)))
        row.categories(name)
    _numbers(row)
    row.item["source"] = "postgres"
    if not all(is_absent(row.peek(name)) for name in ("invalid_at", "expired_at")):
        # Somebody declared it no longer true: it may be kept, but never come alive.
        row.item["state"] = "superseded"
    return row.finish()


def _namespace(row: Row) -> None:
    """Read a namespace column as the owner it names; with an owner already there it is kept."""
    value = row.peek("namespace")
    if not isinstance(value, str) or is_absent(value) or _has_owner(row):
        return
    row.pop("namespace")
    prefix, _, name = value.strip().partition(":")
    target = _OWNER_OF_PREFIX.get(prefix)
    if target and not is_absent(name):
        row.item[target] = name.strip()
    elif value.strip() != "global":
        row.item["user_id"] = value.strip()


def _has_owner(row: Row) -> bool:
    return any(name in row.item for name in _OWNER_OF_PREFIX.values())


def _numbers(row: Row) -> None:
    # Only values that mean what engram means by the name; CSV has strings for all of them.
    importance = row.peek("importance")
    if isinstance(importance, float | int) and importance is not True and 0 < importance <= 1:
        row.item["importance"] = row.pop("importance")
    count = row.peek("access_count")
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 1 << 31:
        row.item["access_count"] = row.pop("access_count")
    if isinstance(row.peek("pinned"), bool):
        row.item["pinned"] = row.pop("pinned")


FORMAT = Format(
    name="postgres",
    source="postgres",
    describe=(
        "table rows with a column content, text, memory, fact, body or value: JSON array, "
        "JSON Lines, COPY text of json_agg, CSV with a header"
    ),
    matches=_matches,
    convert=_convert,
    sections=(("rows",), ("data",), ("results",), ("items",), ("records",), ("memories",)),
)
