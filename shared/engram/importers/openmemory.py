"""OpenMemory backups: the zip of memories.json and memories.jsonl.gz, or either of them alone.

The shape is that of ``openmemory/api/app/routers/backup.py`` in mem0's repository, export version
"1". The lines are what is read, because they name apps and categories; memories.json says whose
they are. Only where the lines are missing are the rows of memories.json read instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engram.importers.elements import elements_of
from engram.importers.members import Member
from engram.importers.preamble import preamble
from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row, to_id
from engram.importers.shape import CERTAIN, Format, Head, Part

_TABLES, _LINES = "memories.json", "memories.jsonl.gz"
_MARKS = frozenset({"export_meta", "memory_categories", "access_controls", "status_history"})
# A paused memory is kept, but neither shown nor searched until it is resumed: archived here.
_STATES = {"active": "active", "paused": "archived", "archived": "archived"}
_DELETED = "deleted"
_MAX_NAMES = 10_000


def _matches(head: Head) -> int:
    if {"user", "apps", "memories"} <= head.keys and not _MARKS.isdisjoint(head.keys):
        return CERTAIN
    return sum(5 for row in head.samples if _is_line(row))


def _is_line(row: Any) -> bool:
    if not isinstance(row, dict) or not {"content", "app", "categories"} <= row.keys():
        return False
    return row.get("state") in (*_STATES, _DELETED)


def _plan(members: Sequence[Member]) -> list[Part] | None:
    # OpenMemory's own import finds them in any folder of the zip, by the last part of the name.
    tables = next((m for m in members if m.base == _TABLES), None)
    rows = next((m for m in members if m.base == _LINES), None)
    if tables is None:
        return None
    user = _user_of(tables).get("user_id")
    if rows is not None:
        return [Part(rows, to_id(user))]
    return [Part(tables)] if user is not None else None


def _user_of(tables: Member) -> Mapping[str, Any]:
    user = preamble(tables.source()).get("user")
    return user if isinstance(user, dict) else {}


def _learn(parts: Sequence[Part], warnings: Warnings) -> Mapping[str, Any]:
    known: dict[str, Any] = {}
    for part in parts:
        user = _user_of(part.member)
        if not user:
            continue
        known |= {"user": to_id(user.get("user_id")), "user_row": user.get("id"), "names": {}}
        for row in elements_of(part.member.source(), (("apps",), ("categories",))):
            _learn_name(known["names"], row.value, warnings)
    return known


def _learn_name(names: dict[str, str], row: Any, warnings: Warnings) -> None:
    if not isinstance(row, dict):
        return
    key, name = to_id(row.get("id")), row.get("name")
    if key is None or not isinstance(name, str) or len(key) + len(name) > 1_024:
        return
    if len(names) < _MAX_NAMES:
        names[key] = name
    else:
        warnings.add(f"more than {_MAX_NAMES:,} apps and categories; further ones keep their ids")


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "openmemory", warnings)
    given = row.pop("state") or "active"
    if given == _DELETED:
        raise ItemError("deleted", "The memory is deleted.")
    state = _STATES.get(given) if isinstance(given, str) else None
    if state is None:
        raise ItemError("unknown_state", "The memory is in a state unknown here.")
    row.content(("content",))
    _name_owners(row, element)
    row.owners(element.owner)
    row.external_id(("id",))
    row.times(("created_at", "updated_at"))
    row.categories("categories")
    if state != "active":
        row.item["state"] = state
        # Which of the two it was is worth knowing when it is brought back.
        row.put_back("state", given)
    row.item["source"] = "openmemory"
    return row.finish()


def _name_owners(row: Row, element: Element) -> None:
    """Put names for the ids that only mean something inside the old database."""
    known = element.known
    names: Mapping[str, str] = known.get("names", {})
    if known and row.peek("user_id") in (known.get("user_row"), None):
        row.put_back("user_id", known.get("user"))
    app = to_id(row.peek("app_id"))
    if app is not None:
        row.put_back("app_id", names.get(app, app))
    row.owner("app_id", "app")
    ids = row.peek("category_ids")
    if isinstance(ids, list) and all(isinstance(i, str) and i in names for i in ids):
        row.pop("category_ids")
        row.put_back("categories", [names[i] for i in ids])


FORMAT = Format(
    name="openmemory",
    source="openmemory",
    describe="OpenMemory backups: the zip, its memories.json or memories.jsonl.gz",
    matches=_matches,
    convert=_convert,
    sections=(("memories",),),
    plan=_plan,
    learn=_learn,
    heard=frozenset({"apps", "categories", "memory_categories"}),
)
