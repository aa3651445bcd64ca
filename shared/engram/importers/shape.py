"""What a format declares about itself, and what it is shown of a file to recognise it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from engram.importers.record import Element, Warnings

Kind = Literal["array", "sections", "per_owner", "item", "lines", "csv", "empty"]
Pattern = tuple[str, ...]

# formats.md 1g: these keys at the top win; only without them are all-list values users.
RESERVED_KEYS = frozenset(
    {"results", "memories", "records", "items", "facts", "edges", "nodes", "episodes", "sessions"}
    | {"agents", "version", "exportData", "data"}
)
PER_OWNER: tuple[Pattern, ...] = (("*",), ("*", "results"))
# Keys that only other products' rows have: a general format must not take those for its own,
# or a fact that its owner has declared invalid would come alive.
FOREIGN_MARKS = frozenset(
    {"invalid_at", "expired_at", "source_node_uuid", "target_node_uuid", "graph_uuid"}
    | {"archive_id", "embedding_config", "isLatest", "sessionIds", "sourceSessionIds"}
)
_FOREIGN_KEYS = frozenset(
    {"sessions", "observations", "exportedAt", "exportData", "core_memory", "blocks", "facts"}
    | {"edges", "episodes", "nodes", "agents"}
)


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file, as far as it was looked through.

    Attributes:
        kind: how elements lie in the file.
        keys: keys of the top-level object.
        lists: those of them whose value is an array.
        samples: up to 32 parsed elements, unreadable ones left out.
        copied: the file is COPY text (`engram.importers.copytext`).
    """

    kind: Kind
    keys: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    samples: tuple[Any, ...] = ()
    copied: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The samples that are objects, none in a file that is marked as another product's."""
        if not _FOREIGN_KEYS.isdisjoint(self.keys):
            return []
        return [
            s for s in self.samples if isinstance(s, dict) and FOREIGN_MARKS.isdisjoint(s.keys())
        ]


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    Attributes:
        name: what ``--format`` takes and reports say.
        source: constant stored with each memory; part of its identity.
        describe: what is accepted, in a few words, for messages.
        matches: how well a file's head fits; 0 is not at all, the highest wins.
        convert: element to native item; raises `engram.importers.record.ItemError`.
        sections: where elements lie in a top-level object; ``*`` stands for any key and
            becomes the element's owner.
    """

    name: str
    source: str
    describe: str
    matches: Callable[[Head], int]
    convert: Callable[[Element, Warnings], dict[str, Any]]
    sections: tuple[Pattern, ...]

    def patterns(self, kind: Kind) -> tuple[Pattern, ...]:
        """Return where elements lie in a file of this kind."""
        return PER_OWNER if kind == "per_owner" else self.sections
