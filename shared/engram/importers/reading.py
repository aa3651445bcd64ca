"""Reading an export: bytes or a parsed body in, one `Found` for each element out."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from engram.errors import Fault, MalformedError, UsageError
from engram.importers.elements import Elements
from engram.importers.formats import by_name
from engram.importers.identity import Repeats
from engram.importers.members import Member, checked
from engram.importers.opening import Opened, Opening, open_archive, open_file
from engram.importers.record import NOTHING, Element, Found, ItemError, Warnings
from engram.importers.rows import is_absent, to_id
from engram.importers.shape import Format
from engram.importers.source import Limits, Source

_NEXT_KEYS = ("next", "next_cursor", "next_page")
_TOTAL_KEYS = ("count", "total_count", "total_size", "total", "record_count")
_ID_KEYS = ("external_id", "id", "uuid")


class Import:
    """An export being read; iterate to get its elements, in order.

    Attributes:
        format: name of its format, ``mixed`` for an archive of files in several.
        source: the constant stored with its memories, None when its files differ in it.
    """

    def __init__(
        self, opening: Opening, include: tuple[str, ...] = (), *, placed: bool = False
    ) -> None:
        self.format = opening.format
        sources = {text.format.source for text in opening.texts}
        self.source = sources.pop() if len(sources) == 1 else None
        self._opening = opening
        self._include = include
        self._placed = placed
        self._warnings = Warnings(placed=placed)
        self._repeats: dict[str, Repeats] = {}

    @property
    def warnings(self) -> list[str]:
        """What is worth knowing about the file as a whole; complete once it was read."""
        return self._warnings.as_list()

    def __iter__(self) -> Iterator[Found]:
        """Yield one `Found` for each element.

        Raises:
            MalformedError: the file is damaged beyond one element; all before it was yielded.
            TooLargeError: it holds more than the limits allow.
        """
        self._warnings, self._repeats = Warnings(placed=self._placed), {}
        if self._opening.left_out:
            self._warnings.add(f"{self._opening.left_out:,} files of the archive are left out")
        known = self._learnt()
        received = 0
        for text in self._opening.texts:
            for element in self._elements(text, known.get(text.format.name, NOTHING)):
                yield self._found(received, element, text.format)
                received += 1

    def _learnt(self) -> dict[str, Mapping[str, Any]]:
        known: dict[str, Mapping[str, Any]] = {}
        for chosen in {text.format.name: text.format for text in self._opening.texts}.values():
            if chosen.learn is not None:
                parts = [t.part for t in self._opening.texts if t.format is chosen]
                known[chosen.name] = chosen.learn(parts, self._warnings)
        return known

    def _elements(self, text: Opened, known: Mapping[str, Any]) -> Iterator[Element]:
        for remark in text.remarks:
            self._warnings.add(remark)
        patterns = text.format.patterns(text.layout.head.kind, self._include)
        source, heard = text.part.member.source(), text.format.heard
        elements = Elements(source, text.layout, patterns, self._warnings, heard)
        received = 0
        for raw in elements:
            received += 1
            yield from self._expanded(raw, text, known)
        # What an export counts are its own records, not the facts inside one.
        self._warn_of_missing(text, elements.aside, received)

    def _expanded(
        self, element: Element, text: Opened, known: Mapping[str, Any]
    ) -> Iterable[Element]:
        part = text.part
        if known or part.owner or part.member.name:
            owner = element.owner or part.owner
            element = replace(element, owner=owner, member=part.member.name, known=known)
        return text.format.expand(element) if element.fault is None else (element,)

    def _found(self, index: int, element: Element, chosen: Format) -> Found:
        fault = element.fault
        if fault is None:
            try:
                item = chosen.convert(element, self._warnings)
            except ItemError as error:
                fault = Fault("", error.code, str(error))
            else:
                return Found(index, element.line, item, None, self._own_id(item, chosen))
        return Found(index, element.line, None, fault, _foreign_id(element.value))

    def _own_id(self, item: dict[str, Any], chosen: Format) -> str:
        repeats = self._repeats.get(chosen.name)
        if repeats is None:
            repeats = self._repeats[chosen.name] = Repeats(chosen.name)
        return _own_id(item, repeats)

    def _warn_of_missing(self, text: Opened, aside: dict[str, Any], received: int) -> None:
        if text.layout.head.kind == "empty":
            self._warnings.add("The file holds nothing")
        if any(not is_absent(aside.get(key)) for key in _NEXT_KEYS):
            self._warnings.add("The export is an incomplete page: it names a next one")
        for key in _TOTAL_KEYS:
            total = aside.get(key)
            if isinstance(total, int) and total > received:
                self._warnings.add(
                    f"The export is incomplete: it says {key} {total:,}, {received:,} were found"
                )


def read(
    stream: BinaryIO,
    *,
    format: str | None = None,  # noqa: A002 - the word the API and the command line use
    filename: str | None = None,
    limits: Limits | None = None,
    include: Iterable[str] = (),
    placed: bool = False,
) -> Import:
    """Open an export for reading, in bounded memory whatever its size.

    A stream that cannot seek is copied to a temporary file first, and so is a gzipped tar.

    Args:
        stream: the bytes: JSON array or object, JSON Lines, CSV, Markdown; plain, gzip, or in a
            zip or tar archive; UTF-8 or UTF-16.
        format: name of its format, when it shall not be detected; ``+`` and a kind after it is
            another way to say ``include``.
        filename: its name, whose ending may tell JSON Lines.
        limits: how much is read.
        include: kinds of elements that are read on request only, such as ``observations``.
        placed: all of it goes to a namespace that was named, so nobody is told that none was.

    Raises:
        UsageError: an unknown format name, or a kind that the format does not have.
        MalformedError: no known shape; says what was seen and what is accepted.
        TooLargeError: larger than the limits, or a decompression bomb.
    """
    named, kinds = _named(format)
    source = Source(stream, limits or Limits())
    return _import(open_file(source, filename, named), (*kinds, *include), placed=placed)


def read_members(
    members: Sequence[Member],
    *,
    format: str | None = None,  # noqa: A002 - the word the API and the command line use
    include: Iterable[str] = (),
) -> Import:
    """Open the files of a folder for reading, as those of an archive.

    Args:
        members: its files; names are relative to the folder, with slashes.
        format: name of its format, when it shall not be detected.
        include: kinds of elements that are read on request only.

    Raises:
        UsageError: an unknown format name, or a kind that the format does not have.
        MalformedError: no known shape; an unsafe name.
        TooLargeError: too many files, or larger than the limits.
    """
    named, kinds = _named(format)
    limits = members[0].limits if members else Limits()
    return _import(open_archive(checked(members, limits), named), (*kinds, *include))


def _named(name: str | None) -> tuple[Format | None, tuple[str, ...]]:
    """Read ``agentmemory+observations``: a format, and kinds that it reads on request."""
    if name is None:
        return None, ()
    return by_name(name), tuple(name.split("+")[1:])


def _import(opening: Opening, include: Iterable[str], *, placed: bool = False) -> Import:
    wanted = tuple(dict.fromkeys(include))
    offered = {name for text in opening.texts for name in text.format.options}
    if not offered.issuperset(wanted):
        known = f"Known are {', '.join(sorted(offered))}." if offered else "It has none of these."
        raise UsageError(
            "unknown_kind",
            f"The format {opening.format} has no further elements of that kind to include.",
            cure=known,
        )
    return Import(opening, wanted, placed=placed)


def read_value(
    value: Any,
    format: str | None = None,  # noqa: A002 - the word the API and the command line use
    limits: Limits | None = None,
    include: Iterable[str] = (),
) -> Import:
    """Open an already parsed JSON body for reading.

    Raises:
        UsageError: an unknown format name, or a kind that the format does not have.
        MalformedError: no known shape, or a value that is no JSON.
        TooLargeError: larger than the limits.
    """
    # Written out and read again, so that one reader judges what comes by every door.
    try:
        text = json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError):
        raise MalformedError(
            "malformed_json", "The body is no JSON value.", cure="Send JSON."
        ) from None
    return read(io.BytesIO(text), format=format, limits=limits, include=include)


def _own_id(item: dict[str, Any], repeats: Repeats) -> str:
    """Return the name under which a repeated import finds the item, and see that it has one."""
    external_id = item.get("external_id")
    if external_id is None and item.get("id") is not None:
        # A record of another engram without an external id is known by its id.
        return str(item["id"])
    if not external_id:
        external_id = item["external_id"] = repeats.id_for(item)
    return str(external_id)


def _foreign_id(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    found = (to_id(value.get(key)) for key in _ID_KEYS)
    return next((text[:512] for text in found if text), None)
