"""engram's own records and items, as `engram export` writes them and the API takes them."""

from typing import Any
from uuid import UUID

from engram.domain.fields import FIELDS
from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import IDS, Row, is_absent
from engram.importers.shape import Format, Head
from engram.importers.times import to_iso

_MARKS = frozenset(
    {"namespace", "session_id", "importance", "pinned", "external_id", "valid_until"}
    | {"last_accessed_at", "access_count", "embedded", "merged_into"}
)
_ROW_SIGNS = frozenset({"id", "created_at", "run_id"})
_AS_IT_STANDS = ("namespace", "importance", "pinned", "source", "access_count")
_TIMES = ("created_at", "updated_at", "expires_at", "valid_until", "last_accessed_at")
_RECORD_TIMES = (*_TIMES, "reinforced_at")
_RECORD_FIELDS = tuple(field.name for field in FIELDS if field.name not in ("state", "content"))
# Fields that a plain item may bring, and those of them that are ids.
_PLAIN = frozenset({"content", "metadata", "namespace", "importance", "pinned", "source"} | IDS)
# What the target decides anew; without its id, a record cannot say who absorbed it either.
_DECIDED_HERE = ("version", "embedded", "folded")
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
    item = _plain(element.value) if element.owner is None else None
    return _understood(element, warnings) if item is None else item


def _plain(value: Any) -> dict[str, Any] | None:
    """Return the item where there is nothing to understand: what is written for engram itself.

    The same as `_understood` makes of it, at a sixth of the cost; None where that has to look.
    """
    if not isinstance(value, dict) or "content" not in value or not value.keys() <= _PLAIN:
        return None
    item = dict(value)
    for name, given in value.items():
        if given is None or not _is_clean(name, given):
            return None
    if not item.get("metadata", True):
        del item["metadata"]
    item.setdefault("source", "native")
    return item


def _is_clean(name: str, given: Any) -> bool:
    if name == "content":
        return isinstance(given, str) and bool(given.strip())
    if name == "metadata":
        return isinstance(given, dict)
    if name in IDS:
        return isinstance(given, str) and given == given.strip() and not is_absent(given)
    return True


def _understood(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "native", warnings)
    for name in _DECIDED_HERE:
        row.pop(name)
    state = _state(row.pop("state"))
    row.content(("content",))
    if _is_record(row):
        return _record(row, state)
    row.pop("merged_into")
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
    if _STATES[state] != "active":
        row.item["state"] = _STATES[state]
    return row.finish()


def _state(given: Any) -> str:
    state = str(given or "active")
    if state == "deleted":
        raise ItemError("deleted", "The record is deleted.")
    if state not in _STATES:
        raise ItemError("unknown_state", "The record is in a state unknown here.")
    return state


def _is_record(row: Row) -> bool:
    """Say whether an engram made it: it has one of our ids, and names an external id or none."""
    return "external_id" in row and _is_uuid(row.peek("id"))


def _record(row: Row, state: str) -> dict[str, Any]:
    """Take a record as it is, id and all: what one store holds, another can hold unchanged."""
    item = row.item
    item["id"] = row.pop("id")
    for name in _RECORD_FIELDS:
        value = row.peek(name) if name == "metadata" else row.pop(name)
        if name in _RECORD_TIMES:
            value = to_iso(value) or value
        if value is not None and name != "metadata":
            item[name] = value
    # Also where it is null: that is how a record is told when the item is read once more.
    item.setdefault("external_id", None)
    survivor = row.pop("merged_into")
    if state == "merged" and _is_uuid(survivor):
        item.update(state=state, merged_into=survivor)
    elif _STATES[state] != "active":
        item["state"] = _STATES[state]
    return row.finish()


def _is_uuid(value: Any) -> bool:
    if not isinstance(value, str) or len(value) != 36:
        return False
    try:
        UUID(value)
    except ValueError:
        return False
    return True


FORMAT = Format(
    name="native",
    source="native",
    describe='engram records or items ({"content": …, "namespace"|"user_id": …}), bare strings',
    matches=_matches,
    convert=_convert,
    sections=(("memories",), ("items",)),
)
