"""Cognee's exchange format COGX: a folder or tar archive of JSON Lines, one file for each kind."""

from collections.abc import Mapping, Sequence
from typing import Any

from engram.importers.members import Member
from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row, is_absent, parsed, to_id
from engram.importers.shape import Format, Head, Part

_MANIFEST = "manifest.json"
_NODES = "nodes.jsonl"
# In the order in which cognee itself reads them.
_FILES = (
    *("documents.jsonl", "episodes.jsonl", "entities.jsonl", "facts.jsonl", "memories.jsonl"),
    *("memory_blocks.jsonl", _NODES),
)
_TEXT_OF = {
    "memory": "content",
    "document": "content",
    "fact": "fact_text",
    "memory_block": "value",
}
_LEFT_OUT = {
    "episode": "Conversations are not imported, only what was learnt from them.",
    "entity": "Entities of the graph are not imported; facts about them are.",
    "raw_node": "Raw nodes of the graph are not imported.",
}
_SCOPE = ("user_id", "agent_id", "session_id", "run_id")


def _matches(head: Head) -> int:
    if head.kind == "csv":
        return 0
    # The sample of a single object has its keys only.
    samples = (
        ({**dict.fromkeys(head.keys), **head.values},) if head.kind == "item" else head.samples
    )
    return sum(_score(sample) for sample in samples)


def _score(sample: Any) -> int:
    if not isinstance(sample, dict) or "external_id" not in sample:
        return 0
    known = sample.get("kind") in (*_TEXT_OF, *_LEFT_OUT)
    return 7 if known and not {"scope", "external_system"}.isdisjoint(sample) else 0


def _plan(members: Sequence[Member]) -> list[Part] | None:
    """Return the files of a COGX archive, which lie beside its manifest."""
    manifest = next((m for m in members if m.base == _MANIFEST), None)
    if manifest is None:
        return None
    folder = manifest.name.removesuffix(_MANIFEST)
    by_name = {member.name: member for member in members}
    found = [by_name[folder + name] for name in _FILES if folder + name in by_name]
    return [Part(member) for member in found] or None


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    value = element.value
    kind = value.get("kind") if isinstance(value, dict) else None
    if element.member.rsplit("/", 1)[-1] == _NODES:
        kind = "raw_node"
    if isinstance(kind, str) and kind in _LEFT_OUT:
        raise ItemError("kind_not_imported", _LEFT_OUT[kind])
    row = Row(element, "cognee", warnings)
    if kind == "fact" and is_absent(row.peek("fact_text")):
        raise ItemError("kind_not_imported", "The fact has no sentence, only a relation of nodes.")
    row.content((_TEXT_OF.get(kind, "content") if isinstance(kind, str) else "content",))
    _scope(row)
    row.owners(element.owner)
    _external_id(row, kind)
    row.times(("created_at", "updated_at"))
    row.validity()
    row.categories("categories")
    row.item["source"] = "cognee"
    return row.finish()


def _scope(row: Row) -> None:
    scope = parsed(row.peek("scope"))
    if not isinstance(scope, Mapping):
        return
    row.pop("scope")
    for name in _SCOPE:
        if name not in row and not is_absent(scope.get(name)):
            row.put_back(name, scope[name])


def _external_id(row: Row, kind: Any) -> None:
    """Name a record by system, kind and id: ids are unique in their own system and kind only."""
    own = to_id(row.pop("external_id"))
    if own is not None:
        system = to_id(row.peek("external_system")) or "unknown"
        row.item["external_id"] = f"{system}:{kind}:{own}"


FORMAT = Format(
    name="cognee",
    source="cognee",
    describe="cognee COGX archives: a folder or .cogx.tar.gz, or one of its JSON Lines files",
    matches=_matches,
    convert=_convert,
    sections=(("memories",), ("facts",)),
    plan=_plan,
)
