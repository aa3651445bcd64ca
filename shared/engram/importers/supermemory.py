"""Supermemory: requests of POST /v4/memories, and entries as its API lists them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row, is_absent, to_id
from engram.importers.shape import Format, Head

_MARKS = frozenset({"isStatic", "containerTag", "containerTags", "isForgotten"})
_REQUEST = frozenset({"memories", "containerTag"})


def _matches(head: Head) -> int:
    if head.kind == "csv":
        return 0
    if head.kind == "item" and head.keys >= _REQUEST:
        return 8
    rows = [sample for sample in head.samples if isinstance(sample, dict)]
    score = sum(
        8 for row in rows if isinstance(row.get("memories"), list) and row.keys() >= _REQUEST
    )
    texts = [row for row in rows if not {"content", "memory"}.isdisjoint(row)]
    return score + (7 * len(texts) if any(not _MARKS.isdisjoint(row) for row in texts) else 0)


def _expand(element: Element) -> Iterator[Element]:
    """Yield the memories of one request; their tag and other values stand beside the list."""
    value = element.value
    memories = value.get("memories") if isinstance(value, dict) else None
    if not isinstance(memories, list):
        yield element
        return
    given = {name: value[name] for name in ("containerTag", "containerTags") if name in value}
    for memory in memories:
        own = {"content": memory} if isinstance(memory, str) else memory
        own = {**given, **own} if isinstance(own, dict) else own
        yield replace(element, path=(*element.path, "memories"), value=own)


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "supermemory", warnings)
    if row.pop("isForgotten") is True:
        raise ItemError("deleted", "The memory is forgotten.")
    row.content(("content", "memory"))
    row.owners(element.owner)
    _tags(row)
    row.external_id(("id", "customId"))
    for target, name in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
        row.time(target, name)
    row.time("expires_at", "forgetAfter")
    if row.peek("isLatest") is False:
        row.item["state"] = "superseded"
    row.item["source"] = "supermemory"
    return row.finish()


def _tags(row: Row) -> None:
    """Read a container tag as the user: it is what keeps one user's memories from another's."""
    tags = row.peek("containerTags")
    if is_absent(row.peek("containerTag")) and isinstance(tags, list) and len(tags) == 1:
        row.put_back("containerTag", to_id(tags[0]))
        row.pop("containerTags")
    if "user_id" not in row.item:
        row.owner("user_id", "containerTag")


FORMAT = Format(
    name="supermemory",
    source="supermemory",
    describe='supermemory requests and entries ({"memories": [{"content", "isStatic"}], …})',
    matches=_matches,
    convert=_convert,
    sections=(("memories",),),
    expand=_expand,
)
