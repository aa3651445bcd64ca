"""Every element of a file in order, streamed: one is held at a time."""

import contextlib
from collections.abc import Iterator
from typing import Any

from engram.errors import MalformedError
from engram.importers.cursor import Cursor
from engram.importers.decode import decode, decode_line
from engram.importers.envelope import unwrapped, wrapper_of
from engram.importers.layout import Layout, document_chunks
from engram.importers.lines import lines
from engram.importers.markdown import blocks
from engram.importers.record import Element, Warnings
from engram.importers.shape import ENVELOPES, RESERVED_KEYS, Head, Pattern
from engram.importers.source import Source
from engram.importers.table import Table

_MAX_ASIDE_BYTES = 4096
# Objects that hold elements when they hold anything: left out, they are worth a warning.
_TOLD = RESERVED_KEYS | {"observations"}


def elements_of(source: Source, patterns: tuple[Pattern, ...]) -> Iterator[Element]:
    """Yield the elements of some sections of a JSON object, for a format that learns from them.

    Damage ends it silently: reading the file afterwards reports it.
    """
    with contextlib.suppress(MalformedError):
        yield from Elements(source, Layout(Head("sections")), patterns, Warnings())


class Elements:
    """Reads the elements of a file.

    Attributes:
        aside: small top-level values beside the elements, such as ``next``, of the last page.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        patterns: tuple[Pattern, ...],
        warnings: Warnings,
        heard: frozenset[str] = frozenset(),
    ) -> None:
        self.aside: dict[str, Any] = {}
        self._source = source
        self._layout = layout
        self._patterns = patterns
        self._warnings = warnings
        self._heard = heard
        self._max_bytes = source.limits.max_item_bytes

    def __iter__(self) -> Iterator[Element]:
        head, table = self._layout.head, self._layout.table
        if table is not None:
            yield from Table(*table, self._max_bytes).rows(self._source.chunks())
        elif head.kind == "lines":
            yield from self._lines(copied=head.copied)
        elif head.kind == "markdown":
            yield from blocks(self._source)
        elif head.kind != "empty":
            yield from self._documents(copied=head.copied)

    def _lines(self, *, copied: bool) -> Iterator[Element]:
        for number, raw in lines(self._source.chunks(), self._max_bytes):
            if raw is not None and not raw.strip():
                continue
            value, fault = decode_line(raw, self._max_bytes, copied=copied)
            element = Element(number, value=value, fault=fault)
            # Asked here too: a generator for each line would be a tenth of reading them.
            if fault is not None or wrapper_of(value) is None:
                yield element
            else:
                yield from self._opened(element)

    def _documents(self, *, copied: bool) -> Iterator[Element]:
        # Pages glued together, and what jq prints, are several documents in a row.
        cursor = Cursor(document_chunks(self._source, copied=copied), self._max_bytes)
        while opening := cursor.peek():
            if opening == b"[":
                yield from self._array(cursor, (), None)
            elif opening == b"{" and self._layout.head.kind in ("sections", "per_owner"):
                self.aside = {}
                yield from self._object(cursor, ())
            elif opening in b'{"':
                yield from self._one(cursor, (), None)
            else:
                raise cursor.broken("expected an array or an object")

    def _array(self, cursor: Cursor, path: tuple[str, ...], owner: str | None) -> Iterator[Element]:
        for _ in cursor.elements():
            yield from self._one(cursor, path, owner)

    def _one(self, cursor: Cursor, path: tuple[str, ...], owner: str | None) -> Iterator[Element]:
        line = cursor.line
        value, fault = decode(cursor.value(), self._max_bytes)
        yield from self._opened(Element(line, path, owner, value, fault))

    def _opened(self, element: Element) -> Iterator[Element]:
        if element.fault is not None or wrapper_of(element.value) is None:
            yield element
            return
        self.aside = {k: v for k, v in element.value.items() if not isinstance(v, list)}
        for path, value in unwrapped(element.value):
            yield Element(element.line, (*element.path, *path), element.owner, value)

    def _object(self, cursor: Cursor, prefix: tuple[str, ...]) -> Iterator[Element]:
        for raw in cursor.members():
            key, _ = decode(raw, self._max_bytes)
            path = (*prefix, key if isinstance(key, str) else "")
            opening = cursor.peek()
            pattern = self._pattern(path)
            if opening == b"[" and pattern is not None:
                yield from self._array(cursor, path, _owner(path, pattern))
            elif opening == b"{" and self._leads_on(path):
                yield from self._object(cursor, path)
            elif opening == b"{" and pattern is not None:
                yield from self._one(cursor, path, _owner(path, pattern))
            else:
                self._set_aside(cursor, path, opening)

    def _pattern(self, path: tuple[str, ...]) -> Pattern | None:
        return next((p for p in self._patterns if len(p) == len(path) and _fits(p, path)), None)

    def _leads_on(self, path: tuple[str, ...]) -> bool:
        return any(len(p) > len(path) and _fits(p, path) for p in self._patterns)

    def _set_aside(self, cursor: Cursor, path: tuple[str, ...], opening: bytes) -> None:
        before = cursor.consumed_bytes
        if opening not in (b"[", b"{"):
            value, fault = decode(cursor.value(), _MAX_ASIDE_BYTES)
            at_top = len(path) == 1 or (len(path) == 2 and path[0] in ENVELOPES)
            if fault is None and len(self.aside) < 64 and at_top:
                self.aside[path[-1]] = value
            return
        cursor.skip()
        # More than a pair of brackets: something lies there that is not imported.
        told = opening == b"[" or path[-1] in _TOLD
        if told and path[-1] not in self._heard and cursor.consumed_bytes - before > 2:
            shown = ascii(path[-1])[1:-1][:64]
            self._warnings.add(f'"{shown}" is not empty; its entries are left out')


def _fits(pattern: Pattern, path: tuple[str, ...]) -> bool:
    return all(want in ("*", have) for want, have in zip(pattern, path, strict=False))


def _owner(path: tuple[str, ...], pattern: Pattern) -> str | None:
    return path[pattern.index("*")] if "*" in pattern else None
