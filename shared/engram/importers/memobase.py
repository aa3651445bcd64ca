"""Memobase: the profiles of a user."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engram.importers.record import Element, Warnings
from engram.importers.rows import Row, parsed
from engram.importers.shape import Format, Head

_ANSWER = frozenset({"data", "errno"})
_TOPICS = frozenset({"topic", "sub_topic"})


def _matches(head: Head) -> int:
    if head.kind == "item" and (head.keys >= _ANSWER or head.keys >= {"content", "attributes"}):
        return 7
    return sum(_score(sample) for sample in head.samples)


def _score(sample: Any) -> int:
    if not isinstance(sample, dict):
        return 0
    if _profiles(sample) is not None:
        return 7
    attributes = parsed(sample.get("attributes"))
    topical = isinstance(attributes, dict) and attributes.keys() >= _TOPICS
    return 7 if "content" in sample and topical else 0


def _profiles(value: Any) -> list[Any] | None:
    if not isinstance(value, dict) or "content" in value:
        return None
    inner = value.get("data") if isinstance(value.get("data"), dict) else value
    profiles = inner.get("profiles") if isinstance(inner, dict) else None
    return profiles if isinstance(profiles, list) else None


def _expand(element: Element) -> Iterator[Element]:
    """Yield the profiles of an answer of the API."""
    profiles = _profiles(element.value)
    if profiles is None:
        yield element
        return
    for profile in profiles:
        yield replace(element, path=(*element.path, "profiles"), value=profile)


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "memobase", warnings)
    row.content(("content",))
    row.owners(element.owner)
    row.external_id(("id",))
    row.times(("created_at", "updated_at"))
    attributes = parsed(row.peek("attributes"))
    if isinstance(attributes, dict) and "metadata" not in row:
        row.pop("attributes")
        row.put_back("metadata", attributes)
        row.put_back("categories", attributes.get("topic"))
        row.categories("categories")
    row.item["source"] = "memobase"
    return row.finish()


FORMAT = Format(
    name="memobase",
    source="memobase",
    describe='memobase profiles ({"content", "attributes": {"topic", "sub_topic"}})',
    matches=_matches,
    convert=_convert,
    sections=(("data",), ("items",), ("results",)),
    expand=_expand,
)
