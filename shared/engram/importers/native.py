"""engram's own records and items, as `engram export` writes them and the API takes them."""

from typing import Any

from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row
from engram.importers.shape import Format, Head

_MARKS = frozenset(
    {"namespace", "session_id", "importance", "pinned", "external_id", "valid_until"}
    | {"last_accessed_at", "access_count", "embedded", "merged_into"}
)
_ROW_SIGNS = frozenset({"id", "created_at", "run_id"})
_AS_IT_STANDS = ("namespace", "importance", "pinned", "source", "access_count")
_TIMES = ("created_at", "updated_at", "expires_at", "valid_until", "last_accessed_at")
# What the target decides anew; `merged_into` would name an id of another workspace.
_DECIDED_HERE = ("version", "embedded", "merged_into", "folded")
_STATES = {
    "active": "active",
    "staged": "active",
    "superseded": "superseded",
    "merged": "superseded",
    "archived": "archived",
}


def _matches(head: Head) -> int:
    if head.kind == "csv":
        # Its fields are all strings; the strict types of a native item are lost.
        return 0
    score = sum(1 for s in head.samples if isinstance(s, str))
    for row in head.rows:
        if "content" in row and isinstance(row.get("namespace", ""), str | None):
            score += _score(row, wrapped="memories" in head.lists, copied=head.copied)
    return score


def _score(row: dict[str, Any], *, wrapped: bool, copied: bool) -> int:
    if not _MARKS.isdisjoint(row.keys()):
        return 3
    if "run_id" in row:
        return 1
    if wrapped or (_ROW_SIGNS.isdisjoint(row.keys()) and not copied):
        return 2
    return 1


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "native", warnings)
    for name in _DECIDED_HERE:
        row.pop(name)
    given = row.pop("state") or "active"
    if given == "deleted":
        raise ItemError("deleted", "The record is deleted.")
    state = _STATES.get(str(given))
    if state is None:
        raise ItemError("unknown_state", "The record is in a state unknown here.")
    row.content(("content",))
    row.owners(element.owner)
    row.external_id(("external_id", "id"))
    row.pop("id")
    row.times(_TIMES)
    row.categories("categories")
    row.categories("tags")
    for name in _AS_IT_STANDS:
        value = row.pop(name)
        if value is not None:
            row.item[name] = value
    row.item.setdefault("source", "native")
    if state != "active":
        row.item["state"] = state
    return row.finish()


FORMAT = Format(
    name="native",
    source="native",
    describe='engram records or items ({"content": …, "namespace"|"user_id": …}), bare strings',
    matches=_matches,
    convert=_convert,
    sections=(("memories",), ("items",)),
)
