"""What a format declares about itself, and what it is shown of a file to recognise it."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engram.importers.members import Member
from engram.importers.record import NOTHING, Element, Warnings

Kind = Literal["array", "sections", "per_owner", "item", "lines", "csv", "markdown", "empty"]
Pattern = tuple[str, ...]

# formats.md 1g: these keys at the top win; only without them are all-list values users.
RESERVED_KEYS = frozenset(
    {"results", "memories", "records", "items", "facts", "edges", "nodes", "episodes", "sessions"}
    | {"agents", "version", "exportData", "data"}
)
# Lists that make an object a file of theirs only beside other values: all-list values are users.
SECTION_KEYS = RESERVED_KEYS | {"blocks", "core_memory"}
# Beside one of these an object is read whole: its elements are to be understood together, as the
# tag that owns all memories of a request, and a fact that says of another that it has ended.
WHOLE_KEYS = frozenset({"containerTag", "relevant_facts"})
# An object under one of these is the export itself, as a request wraps it.
ENVELOPES = frozenset({"exportData"})
# What `Format.matches` gives for marks that no other product's files have.
CERTAIN = 1_000
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


def is_whole(keys: Container[str]) -> bool:
    """Say whether an object with these keys is read whole, as `WHOLE_KEYS` explains."""
    return any(key in keys for key in WHOLE_KEYS) or ("facts" in keys and "session_id" in keys)


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file, as far as it was looked through.

    Attributes:
        kind: how elements lie in the file.
        keys: keys of the top-level object.
        lists: those of them whose value is an array.
        samples: up to 32 parsed elements, unreadable ones left out.
        copied: the file is COPY text (`engram.importers.copytext`).
        values: small top-level values that are neither array nor object, such as ``version``.
        whole: the file was looked through to its end; else more keys may follow.
    """

    kind: Kind
    keys: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    samples: tuple[Any, ...] = ()
    copied: bool = False
    values: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    whole: bool = True

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The samples that are objects, none in a file that is marked as another product's."""
        if not _FOREIGN_KEYS.isdisjoint(self.keys):
            return []
        return [
            s for s in self.samples if isinstance(s, dict) and FOREIGN_MARKS.isdisjoint(s.keys())
        ]


@dataclass(frozen=True, slots=True)
class Part:
    """One text that is read: a whole file, or a member of an archive.

    Attributes:
        member: where it is; its name is ``""`` for a file that is no archive.
        owner: who owns its elements, unless the file says so itself.
    """

    member: Member
    owner: str | None = None


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
            becomes the element's owner. A section may be an array of elements or a single one.
        options: further sections, by the name under which a reader asks for them.
        check: says what is wrong with a file of this format, by raising `MalformedError`.
        plan: the parts of an archive that is this format's own, in the order in which they are
            read; None for any other archive.
        learn: looks through the parts before the first element is converted, in bounded memory,
            and returns what the elements will find as ``known``.
        heard: lists that ``learn`` reads, which are therefore not left out.
        expand: the elements that one element of the file stands for, such as a session's facts;
            by default itself.
        remarks: warnings about a file as a whole, made from its head.
    """

    name: str
    source: str
    describe: str
    matches: Callable[[Head], int]
    convert: Callable[[Element, Warnings], dict[str, Any]]
    sections: tuple[Pattern, ...]
    options: Mapping[str, tuple[Pattern, ...]] = field(default_factory=dict)
    check: Callable[[Head], None] | None = None
    plan: Callable[[Sequence[Member]], list[Part] | None] | None = None
    learn: Callable[[Sequence[Part], Warnings], Mapping[str, Any]] | None = None
    heard: frozenset[str] = frozenset()
    expand: Callable[[Element], Iterable[Element]] = lambda element: (element,)
    remarks: Callable[[Head], Iterable[str]] = lambda _: ()

    def patterns(self, kind: Kind, include: Iterable[str] = ()) -> tuple[Pattern, ...]:
        """Return where elements lie in a file of this kind, with the options in ``include``."""
        if kind == "per_owner":
            return PER_OWNER
        return (*self.sections, *(p for name in include for p in self.options.get(name, ())))
