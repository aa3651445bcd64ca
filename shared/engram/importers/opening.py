"""Which texts of a file or an archive are read, and in which format each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engram.errors import MalformedError
from engram.importers.formats import FORMATS, detect
from engram.importers.layout import Layout, survey
from engram.importers.members import Member, open_members, shown
from engram.importers.shape import Format, Part
from engram.importers.source import Source

_DATA_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".md", ".markdown", ".af")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Opened:
    """One text that was looked at and will be read.

    Attributes:
        part: where it is.
        layout: how elements lie in it, without the samples of the first look.
        format: what reads it.
        remarks: warnings about it as a whole.
    """

    part: Part
    layout: Layout
    format: Format
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """All texts of an export, in the order in which they are read.

    Attributes:
        texts: at least one.
        left_out: files of an archive that are not read.
    """

    texts: tuple[Opened, ...]
    left_out: int = 0

    @property
    def format(self) -> str:
        """Name of the format, ``mixed`` for an archive of files in several."""
        names = {text.format.name for text in self.texts}
        return names.pop() if len(names) == 1 else "mixed"


def open_file(source: Source, filename: str | None, named: Format | None) -> Opening:
    """Look at a file, or at each file of an archive that is read.

    Args:
        source: its bytes.
        filename: its name, whose ending may tell JSON Lines.
        named: its format, when it shall not be detected.

    Raises:
        MalformedError: no known shape; a damaged or unsafe archive.
        TooLargeError: larger than the limits, or a decompression bomb.
    """
    members = open_members(source)
    if members is not None:
        return open_archive(members, named)
    lone = Member("", 0, lambda: source.stream, source.limits)
    return Opening((_look(Part(lone), filename, named),))


def open_archive(members: Sequence[Member], named: Format | None) -> Opening:
    """Look at each file of an archive or a folder that is read.

    Raises:
        MalformedError: none of them is an export.
    """
    for candidate in FORMATS if named is None else (named,):
        parts = candidate.plan(members) if candidate.plan else None
        if parts:
            texts = tuple(_look(part, part.member.name, candidate) for part in parts)
            return Opening(texts)
    parts = [Part(member) for member in members if _is_data(member)]
    if not parts:
        raise _no_export(members)
    texts = tuple(_look(part, part.member.name, named) for part in parts)
    return Opening(texts, len(members) - len(parts))


def _look(part: Part, filename: str | None, named: Format | None) -> Opened:
    layout = survey(part.member.source(), filename)
    chosen = named or detect(layout.head)
    if chosen.check is not None:
        chosen.check(layout.head)
    # Samples and keys of ten thousand members would fill memory: what reads needs the kind only.
    bare = replace(layout.head, samples=(), keys=frozenset(), lists=frozenset(), values={})
    remarks = tuple(chosen.remarks(layout.head))
    return Opened(part, replace(layout, head=bare), chosen, remarks)


def _is_data(member: Member) -> bool:
    return member.base.lower().removesuffix(".gz").endswith(_DATA_ENDINGS)


def _no_export(members: Sequence[Member]) -> MalformedError:
    names = ", ".join(shown(member.name) for member in members[:_SHOWN])
    more = f" and {len(members) - _SHOWN:,} more" if len(members) > _SHOWN else ""
    return MalformedError(
        "unknown_format",
        f"The archive holds no export: {names or 'nothing'}{more}. Accepted are files ending in "
        f"{', '.join(_DATA_ENDINGS)}, each of which may be gzipped.",
        cure="Unpack it and import the file that holds the memories.",
    )
