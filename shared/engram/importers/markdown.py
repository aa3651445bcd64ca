"""Markdown exports of mem0's editor plugin: a block of ``key: value`` lines, then the text.

The shape is that of ``mem0-plugin/skills/export/SKILL.md`` in mem0's repository. Its own parser
takes every ``---`` for the border of a block; here one must be followed by an ``id``, so that a
rule inside a text stays in the text.
"""

import re
from collections.abc import Iterator
from typing import Any

from engram.errors import Fault
from engram.importers.lines import lines
from engram.importers.record import Element, Warnings
from engram.importers.rows import Row
from engram.importers.shape import CERTAIN, Format, Head
from engram.importers.source import Source

_RULE = b"---"
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*:\s*(.*)")
_FIRST = re.compile(rb"id\s*:")
_LISTS = ("files", "categories", "tags")
_TOO_LONG = Fault("", "too_large", "The element is longer than an import reads.")
_NOT_UTF8 = Fault("", "not_utf8", "The block is not valid UTF-8.")


def is_markdown(start: bytes) -> bool:
    """Say whether a text begins with a block that names an id."""
    first, _, rest = start.lstrip().partition(b"\n")
    return first.rstrip() == _RULE and _FIRST.match(rest.lstrip()) is not None


def blocks(source: Source) -> Iterator[Element]:
    """Yield each block as an object of its fields and its ``content``."""
    limit = source.limits.max_item_bytes
    block = _Block(1, limit)
    held: tuple[int, bytes] | None = None
    for number, line in lines(source.chunks(), limit):
        if held is not None:
            if line is not None and _FIRST.match(line.lstrip()):
                yield from block.element()
                block = _Block(held[0], limit)
            else:
                block.take(held[1])
            held = None
        if line is not None and line.rstrip() == _RULE and not block.in_fields:
            # Whether it begins another block is known once the next line is.
            held = (number, line)
        else:
            block.take(line)
    if held is not None:
        block.take(held[1])
    yield from block.element()


class _Block:
    """The lines of one block so far; what is over-long is counted, not held."""

    def __init__(self, line: int, max_bytes: int) -> None:
        self.line = line
        self._max_bytes = max_bytes
        self.in_fields = True
        self._fields: list[bytes] = []
        self._text: list[bytes] = []
        self._bytes = 0

    def take(self, line: bytes | None) -> None:
        """Take the next line; None stands for one that is too long."""
        self._bytes += self._max_bytes + 1 if line is None else len(line) + 1
        if line is None or self._bytes > self._max_bytes:
            # The rest is passed over; that of its fields ends where its text would begin.
            self.in_fields = self.in_fields and (line is None or line.rstrip() != _RULE)
        elif not self.in_fields:
            self._text.append(line.removesuffix(b"\r"))
        elif line.rstrip() != _RULE:
            self._fields.append(line)
        elif self._fields:
            self.in_fields = False

    def element(self) -> Iterator[Element]:
        """Yield the block as an element, nothing for an empty one."""
        if self._bytes > self._max_bytes:
            yield Element(self.line, fault=_TOO_LONG)
            return
        try:
            fields = _parsed(b"\n".join(self._fields).decode())
            text = b"\n".join(self._text).decode()
        except UnicodeDecodeError:
            yield Element(self.line, fault=_NOT_UTF8)
            return
        if fields or text.strip():
            yield Element(self.line, value={**fields, "content": text.strip()})


def _parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in text.splitlines():
        match = _FIELD.fullmatch(line.strip())
        if match is None or not match[2]:
            continue
        name, value = match[1], match[2]
        listed = [part.strip() for part in value.split(",") if part.strip()]
        found[name] = listed if name in _LISTS else value
    return found


def _matches(head: Head) -> int:
    return CERTAIN if head.kind == "markdown" else 0


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "mem0", warnings)
    row.content(("content",))
    row.owners(element.owner)
    row.external_id(("id",))
    row.times(("created_at", "updated_at"))
    row.categories("categories")
    row.item["source"] = "mem0"
    return row.finish()


FORMAT = Format(
    name="mem0-markdown",
    source="mem0",
    describe="Markdown of mem0's editor plugin (blocks of id, created_at, …, then the text)",
    matches=_matches,
    convert=_convert,
    sections=(),
)
