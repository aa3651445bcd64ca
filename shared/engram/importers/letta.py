"""Letta: archival passages as the server's API gives them, and the blocks of agent files (.af)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engram.errors import MalformedError
from engram.importers.cursor import Cursor
from engram.importers.decode import decode
from engram.importers.record import NOTHING, Element, ItemError, Warnings
from engram.importers.rows import Row, to_id
from engram.importers.shape import Format, Head, Part
from engram.importers.source import Source

_PASSAGE_MARKS = frozenset({"archive_id", "embedding_config", "is_deleted", "organization_id"})
_FILE_KEYS = frozenset({"agents", "blocks", "core_memory"})
_NO_PASSAGES = (
    "An agent file (.af) holds blocks and messages, never archival passages: fetch those with "
    "GET /v1/agents/{agent_id}/archival-memory and import that answer as well"
)
_NO_MESSAGES = "Messages of an agent file are not imported; its blocks are"
_SHARED = "Blocks that several agents share name their agents in the metadata only"
_NO_OWNER = (
    "Passages name no agent: they go to the namespace global unless one is given. Import the "
    "file of each agent by itself"
)
# Far above what a file holds; so that a hostile one cannot fill memory.
_MAX_BLOCKS = 100_000
_MAX_NAMES = 20


def _matches(head: Head) -> int:
    if head.kind == "csv" or head.copied:
        return 0
    if head.kind == "sections":
        score = 8 if "core_memory" in head.lists else 0
        score += 4 if "agents" in head.lists else 0
        score += 4 if {"agents", "blocks"} <= head.lists else 0
    else:
        score = 0
    return score + sum(_score(sample) for sample in head.samples)


def _score(sample: Any) -> int:
    if not isinstance(sample, dict):
        return 0
    if _is_agent_file(sample):
        return 8
    if "text" in sample and (not _PASSAGE_MARKS.isdisjoint(sample) or _is_passage_id(sample)):
        return 7
    return 0


def _is_passage_id(sample: Mapping[str, Any]) -> bool:
    return str(sample.get("id", ""))[:8] == "passage-"


def _is_agent_file(value: Mapping[str, Any]) -> bool:
    if isinstance(value.get("core_memory"), list):
        return True
    return isinstance(value.get("agents"), list) and isinstance(value.get("blocks"), list)


def _expand(element: Element) -> Iterator[Element]:
    """Yield the blocks of an agent file that is a single line or element."""
    value = element.value
    if not (isinstance(value, dict) and _is_agent_file(value)):
        yield element
        return
    known = {"agents": _owners(value.get("agents")), "only": _name(value)}
    for key in ("blocks", "core_memory"):
        held = value.get(key)
        for block in held if isinstance(held, list) else ():
            yield replace(element, path=(*element.path, key), value=block, known=known)


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "letta", warnings)
    if row.pop("is_deleted") is True:
        raise ItemError("deleted", "The passage is deleted.")
    block = element.path[-1:] in (("blocks",), ("core_memory",))
    row.content(("value",) if block else ("text", "content"))
    row.owners(element.owner)
    if block:
        _agent_of_block(row, element.known, warnings)
    else:
        row.external_id(("id",))
        if not row.owned:
            warnings.unowned(_NO_OWNER)
    row.times(("created_at", "updated_at"))
    row.categories("tags")
    row.pop("embedding_config")
    if "metadata" not in row and "metadata_" in row:
        row.put_back("metadata", row.pop("metadata_"))
    row.item["source"] = "letta"
    return row.finish()


def _agent_of_block(row: Row, known: Mapping[str, Any], warnings: Warnings) -> None:
    # Ids inside agent files are block-0, block-1, … in every file: they name nothing outside it.
    agents: dict[str | None, list[str]] = known.get("agents", {})
    only = [known["only"]] if known.get("only") else []
    names = agents.get(to_id(row.pop("id")), only)
    if len(names) == 1:
        row.item.setdefault("agent_id", names[0])
    elif names:
        row.put_back("agents", names)
        warnings.once(_SHARED)


def _learn(parts: Sequence[Part], _: Warnings) -> Mapping[str, Any]:
    """Return the names of the agents that each block of an agent file belongs to."""
    for part in parts:
        try:
            return _first_object(part.member.source())
        except MalformedError:
            # Reading the file reports it.
            continue
    return NOTHING


def _first_object(source: Source) -> Mapping[str, Any]:
    limit = source.limits.max_item_bytes
    cursor = Cursor(source.chunks(), limit)
    owners: dict[str, list[str]] = {}
    only = None
    if cursor.peek() != b"{":
        return NOTHING
    for key in cursor.members():
        if key == b'"agents"' and cursor.peek() == b"[":
            for _ in cursor.elements():
                agent, _fault = decode(cursor.value(), limit)
                _note(owners, agent)
        elif key == b'"name"':
            only = _name({"name": decode(cursor.value(), limit)[0]})
        else:
            cursor.skip()
    # The ids of several agent files in a row would be taken for one another's.
    return NOTHING if cursor.peek() else {"agents": owners, "only": only}


def _owners(agents: Any) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for agent in agents if isinstance(agents, list) else ():
        _note(owners, agent)
    return owners


def _note(owners: dict[str, list[str]], agent: Any) -> None:
    name = _name(agent)
    blocks = agent.get("block_ids") if isinstance(agent, dict) else None
    if name is None or not isinstance(blocks, list):
        return
    for block in blocks:
        if isinstance(block, str) and (block in owners or len(owners) < _MAX_BLOCKS):
            names = owners.setdefault(block, [])
            if name not in names and len(names) < _MAX_NAMES:
                names.append(name)


def _name(agent: Any) -> str | None:
    return to_id(agent.get("name")) if isinstance(agent, dict) else None


def _remarks(head: Head) -> Iterable[str]:
    whole = any(isinstance(s, dict) and _is_agent_file(s) for s in head.samples)
    if whole or (head.kind == "sections" and not _FILE_KEYS.isdisjoint(head.lists)):
        yield _NO_PASSAGES
        yield _NO_MESSAGES


FORMAT = Format(
    name="letta",
    source="letta",
    describe='Letta passages ({"text", "archive_id", …}) and the blocks of agent files (.af)',
    matches=_matches,
    convert=_convert,
    # A large agent file is recognised by its agents, before its blocks have been seen.
    sections=(("blocks",), ("core_memory",), ("agents", "blocks")),
    expand=_expand,
    learn=_learn,
    remarks=_remarks,
)
