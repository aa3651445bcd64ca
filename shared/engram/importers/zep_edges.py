"""Facts as edges of a graph: Zep's API from version 2 to 4, and dumps of Graphiti."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engram.importers.record import Element, Warnings
from engram.importers.rows import Row, parsed
from engram.importers.shape import Format, Head

_MARKS = frozenset(
    {"source_node_uuid", "target_node_uuid", "graph_uuid", "hyperedge_uuid", "episode_uuids"}
    | {"episodes", "fact_embedding", "selection_rank", "reference_time"}
)
_PAGE_KEYS = frozenset({"next_cursor", "total_size"})
_SEARCH_KEYS = frozenset({"nodes", "episodes"})
# A fact told in a thousand conversations names them all; metadata has room for a few hundred.
_MAX_EPISODES = 100
_RANKS = ("relevance", "selection_rank")
_NO_OWNER = (
    "Edges name no user: they go to the namespace global unless one is given. Import the file "
    "of each user or graph by itself"
)


def _matches(head: Head) -> int:
    score = 4 if "edges" in head.lists and _SEARCH_KEYS & head.keys else 0
    paged = "items" in head.lists and bool(_PAGE_KEYS & head.keys)
    return score + sum(_score(sample, paged=paged) for sample in head.samples)


def _score(sample: Any, *, paged: bool) -> int:
    if not isinstance(sample, dict):
        return 0
    if isinstance(sample.get("edges"), list) and _SEARCH_KEYS & sample.keys():
        return 7
    return 7 if "fact" in sample and (paged or not _MARKS.isdisjoint(sample)) else 0


def _expand(element: Element) -> Iterator[Element]:
    """Yield the edges of a search answer that is a single line or element."""
    value = element.value
    edges = value.get("edges") if isinstance(value, dict) and "fact" not in value else None
    if not isinstance(edges, list):
        yield element
        return
    for edge in edges:
        yield replace(element, path=(*element.path, "edges"), value=edge)


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "zep", warnings)
    row.content(("fact",))
    row.owners(element.owner)
    row.external_id(("uuid", "uuid_"))
    row.times(("created_at",))
    row.validity()
    for name in _RANKS:
        row.pop(name)
    _attributes(row)
    for name in ("episodes", "episode_uuids"):
        _episodes(row, name, warnings)
    if not row.owned:
        warnings.unowned(_NO_OWNER)
    row.item["source"] = "zep"
    return row.finish()


def _attributes(row: Row) -> None:
    """Lay the attributes, which are the edge's own metadata, where metadata lies."""
    attributes = parsed(row.peek("attributes"))
    if isinstance(attributes, dict) and "metadata" not in row:
        row.pop("attributes")
        row.put_back("metadata", attributes)


def _episodes(row: Row, name: str, warnings: Warnings) -> None:
    found = row.peek(name)
    if isinstance(found, list) and len(found) > _MAX_EPISODES:
        row.put_back(name, found[:_MAX_EPISODES])
        row.put_back(f"{name}_count", len(found))
        warnings.add(f"Of long lists of {name} the first {_MAX_EPISODES} are kept")


FORMAT = Format(
    name="zep-edges",
    source="zep",
    describe=(
        'Zep and Graphiti edges ({"fact", "source_node_uuid", …}): bare array, pages of "items", '
        'search results with "edges"'
    ),
    matches=_matches,
    convert=_convert,
    sections=(("edges",), ("items",), ("results",)),
    expand=_expand,
)
