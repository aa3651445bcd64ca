"""mem0: Platform lists and pages, OSS get_all of every generation, export jobs, pgvector rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from engram.importers.preamble import preamble
from engram.importers.record import Element, Warnings
from engram.importers.rows import Row, is_absent, parsed, to_id
from engram.importers.shape import Format, Head, Part
from engram.importers.times import end_of_day

_TEXTS = ("memory", "data", "content", "text")
# What a record of the migration says under another name, or what is made anew.
_TOLD_ELSEWHERE = frozenset(
    {"data", "hash", "text_lemmatized", "user_id", "agent_id", "run_id", "created_at", "updated_at"}
)
_LIVE_STATES = frozenset({"active", "live", "current"})


def _matches(head: Head) -> int:
    # Only mem0's own loops write one list per user, and only mem0 wraps rows in "results".
    wrapped = head.kind == "per_owner" or "results" in head.lists
    score = 1 if head.kind == "per_owner" else 0
    for row in head.rows:
        score += _score(row, wrapped=wrapped)
    return score


def _score(row: dict[str, Any], *, wrapped: bool) -> int:
    if "memory" in row or isinstance(parsed(row.get("payload")), dict):
        return 4
    if "status" in row and isinstance(row.get("record"), dict):
        return 4
    if "hash" in row and not {"data", "text", "content"}.isdisjoint(row.keys()):
        return 4
    if "run_id" in row or ("data" in row and "user_id" in row):
        return 3
    if "text" in row:
        return 3 if wrapped else 1
    return 0


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(_unpacked(_reviewed(element)), "mem0", warnings)
    if is_absent(row.peek("content")):
        # An export job writes "None" for a text that is missing, as for everything.
        row.pop("content")
    row.content(_TEXTS)
    row.owners(element.owner)
    row.external_id(("id",))
    row.times(("created_at", "updated_at"))
    row.categories("categories")
    _expiry(row, warnings)
    _migration(row, element)
    row.item["source"] = "mem0"
    if _is_superseded(row):
        row.item["state"] = "superseded"
    return row.finish()


def _reviewed(element: Element) -> Element:
    """Lay open an entry of the review file: the record that mem0's own import did not take."""
    value = element.value
    if not isinstance(value, dict) or not isinstance(value.get("record"), dict):
        return element
    remarks = {f"mem0_import_{name}": value.get(name) for name in ("status", "error")}
    return replace(element, value={**value["record"], **remarks})


def _migration(row: Row, element: Element) -> None:
    """Keep the key by which mem0's own migration names the record in the Platform."""
    payload = row.pop("source_payload")
    for name, value in payload.items() if isinstance(payload, dict) else ():
        if name not in row.item and name not in _TOLD_ELSEWHERE and row.peek(name) is None:
            row.put_back(name, value)
    place = element.known.get("place")
    if place and "external_id" in row.item:
        # The name under which that migration keeps it in the metadata of the new memory.
        key = ":".join((*place, row.item["external_id"]))
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        row.put_back("mem0_migration_import_key", digest)


def _learn(parts: Sequence[Part], _: Warnings) -> Mapping[str, Any]:
    """Find out from which store mem0's migration script took its records."""
    for part in parts:
        source = preamble(part.member.source()).get("source")
        if isinstance(source, dict):
            place = [to_id(source.get(name)) for name in ("sdk", "vector_store", "collection")]
            if all(place):
                return {"place": tuple(place)}
    return {}


def _unpacked(element: Element) -> Element:
    """Lay a pgvector row's payload flat beside its id (vector_stores/pgvector.py)."""
    value = element.value
    if not isinstance(value, dict) or "memory" in value:
        return element
    payload = parsed(value.get("payload"))
    if not isinstance(payload, dict):
        return element
    rest = {k: v for k, v in value.items() if k != "payload"}
    return replace(element, value={**payload, **rest})


def _expiry(row: Row, warnings: Warnings) -> None:
    value = row.peek("expiration_date")
    instant = end_of_day(value)
    if instant is not None:
        row.item["expires_at"] = instant
    elif not is_absent(value):
        # mem0 itself takes a date it cannot read for none at all.
        warnings.add("expiration_date could not be read as a date and is kept in metadata")
        return
    row.pop("expiration_date")


def _is_superseded(row: Row) -> bool:
    state = row.peek("lifecycle_state")
    replaced = row.peek("replaced_by")
    stale = not is_absent(state) and str(state).strip().lower() not in _LIVE_STATES
    return stale or not (is_absent(replaced) or replaced in ([], {}, False))


FORMAT = Format(
    name="mem0",
    source="mem0",
    describe=(
        'mem0 lists, pages, get_all() results ({"memory": …}), per-user objects, pgvector rows'
    ),
    matches=_matches,
    convert=_convert,
    sections=(("results",), ("memories",), ("records",), ("items",), ("data",)),
    learn=_learn,
)
