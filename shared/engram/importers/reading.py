"""Reading an export: bytes or a parsed body in, one `Found` for each element out."""

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from engram.errors import Fault, MalformedError
from engram.importers.elements import Elements
from engram.importers.formats import by_name, detect
from engram.importers.identity import Repeats
from engram.importers.layout import Layout, survey
from engram.importers.record import Element, Found, ItemError, Warnings
from engram.importers.rows import is_absent, to_id
from engram.importers.shape import Format
from engram.importers.source import Limits, Source

_NEXT_KEYS = ("next", "next_cursor", "next_page")
_TOTAL_KEYS = ("count", "total_count", "total_size", "total", "record_count")
_ID_KEYS = ("external_id", "id", "uuid")


class Import:
    """An export being read; iterate to get its elements, in order.

    Attributes:
        format: name of its format.
    """

    def __init__(self, source: Source, layout: Layout, chosen: Format) -> None:
        self.format = chosen.name
        self._source = source
        self._layout = layout
        self._chosen = chosen
        self._warnings = Warnings()

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
        self._warnings = Warnings()
        patterns = self._chosen.patterns(self._layout.head.kind)
        elements = Elements(self._source, self._layout, patterns, self._warnings)
        repeats = Repeats(self._chosen.name)
        received = 0
        for received, element in enumerate(elements, 1):
            yield self._found(received - 1, element, repeats)
        self._warn_of_missing(elements.aside, received)

    def _found(self, index: int, element: Element, repeats: Repeats) -> Found:
        fault = element.fault
        if fault is None:
            try:
                item = self._chosen.convert(element, self._warnings)
            except ItemError as error:
                fault = Fault("", error.code, str(error))
            else:
                external_id = item.get("external_id") or repeats.id_for(item)
                item["external_id"] = external_id
                return Found(index, element.line, item, None, external_id)
        return Found(index, element.line, None, fault, _foreign_id(element.value))

    def _warn_of_missing(self, aside: dict[str, Any], received: int) -> None:
        if self._layout.head.kind == "empty":
            self._warnings.add("The file holds nothing")
        if any(not is_absent(aside.get(key)) for key in _NEXT_KEYS):
            self._warnings.add("The export is incomplete: the page names a next page")
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
) -> Import:
    """Open an export for reading, in bounded memory whatever its size.

    A stream that cannot seek is copied to a temporary file first.

    Args:
        stream: the bytes: JSON array or object, JSON Lines, CSV; plain or gzip; UTF-8 or UTF-16.
        format: name of its format, when it shall not be detected.
        filename: its name, whose ending may tell JSON Lines.
        limits: how much is read.

    Raises:
        UsageError: an unknown format name.
        MalformedError: no known shape; says what was seen and what is accepted.
        TooLargeError: larger than the limits, or a decompression bomb.
    """
    named = by_name(format) if format is not None else None
    source = Source(stream, limits or Limits())
    layout = survey(source, filename)
    return Import(source, layout, named or detect(layout.head))


def read_value(
    value: Any,
    format: str | None = None,  # noqa: A002 - the word the API and the command line use
    limits: Limits | None = None,
) -> Import:
    """Open an already parsed JSON body for reading.

    Raises:
        UsageError: an unknown format name.
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
    return read(io.BytesIO(text), format=format, limits=limits)


def _foreign_id(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    found = (to_id(value.get(key)) for key in _ID_KEYS)
    return next((text[:512] for text in found if text), None)
