"""How elements lie in a file: looked through once, before the first is taken."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engram.errors import MalformedError
from engram.importers.copytext import is_copy_text, undo_copy_stream
from engram.importers.cursor import Cursor
from engram.importers.decode import decode, decode_line
from engram.importers.envelope import unwrapped
from engram.importers.lines import lines
from engram.importers.markdown import is_markdown
from engram.importers.postgres import TEXT_COLUMNS
from engram.importers.shape import (
    ENVELOPES,
    RESERVED_KEYS,
    SECTION_KEYS,
    WHOLE_KEYS,
    Head,
    Kind,
    is_whole,
)
from engram.importers.source import Source
from engram.importers.table import Table, header_of

_HEAD_BYTES = 64 * 1024
_SAMPLES = 32
# A line is looked at this far down for one that reads, when the first ones are damaged.
_LINES_TRIED = 200
_MAX_KEYS = 64
_MAX_SAMPLED_KEYS = 16
_MAX_VALUE_BYTES = 4096
_COLUMNS = frozenset(TEXT_COLUMNS)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the first look at a file found.

    Attributes:
        head: what formats are shown.
        table: (delimiter, columns) of a CSV file.
    """

    head: Head
    table: tuple[str, list[str]] | None = None


def survey(source: Source, filename: str | None = None) -> Layout:
    """Look through a file as far as needed to know its layout.

    Damage is not reported here: reading reports it, after what came before it.

    Raises:
        MalformedError: the file is neither JSON nor CSV with a known column.
        TooLargeError: it is a decompression bomb.
    """
    start = _beginning(source)
    text = start.strip()
    if text in (b"", b"\\N", b"null"):
        return Layout(Head("empty"))
    if is_markdown(text):
        return Layout(Head("markdown"))
    table = _table_of(text)
    if table is not None:
        return Layout(Head("csv", samples=tuple(_csv_samples(source, table))), table)
    copied = _is_copied(source)
    if _is_lines(start, filename, whole=len(start) < _HEAD_BYTES):
        return Layout(Head("lines", samples=tuple(_line_samples(source, copied)), copied=copied))
    if text[:1] not in (b"[", b"{"):
        raise _not_an_export(start)
    return Layout(_Survey(source, copied).run())


def document_chunks(source: Source, *, copied: bool) -> Iterator[bytes]:
    """Return the text of a JSON document, with COPY's escapes undone where it has them."""
    return undo_copy_stream(source.chunks()) if copied else source.chunks()


def _beginning(source: Source) -> bytes:
    head = b""
    with contextlib.suppress(MalformedError):
        for chunk in source.chunks():
            head += chunk
            if len(head) >= _HEAD_BYTES and head.strip():
                break
            head = head if head.strip() else b""
    return head


def _is_copied(source: Source) -> bool:
    try:
        return is_copy_text(source.chunks())
    except MalformedError:
        return False


def _table_of(text: bytes) -> tuple[str, list[str]] | None:
    first = text.split(b"\n", 1)[0].strip().decode("utf-8", "replace")
    if first[:1] in ("[", "{") or decode(first.encode(), _HEAD_BYTES)[1] is None:
        return None
    return header_of(first, _COLUMNS)


def _csv_samples(source: Source, table: tuple[str, list[str]]) -> list[dict[str, str]]:
    # The header alone tells the shape of an empty table; NULL fields are absent from a row.
    found: list[dict[str, str]] = []
    with contextlib.suppress(MalformedError):
        rows = Table(*table, source.limits.max_item_bytes).rows(source.chunks())
        found.extend(
            dict.fromkeys(table[1], "") | (element.value or {})
            for element in itertools.islice(rows, _SAMPLES)
        )
    return found or [dict.fromkeys(table[1], "")]


def _is_lines(start: bytes, filename: str | None, *, whole: bool) -> bool:
    if _is_lines_name(filename) and start.lstrip()[:1] in (b"{", b'"'):
        return True
    head = [line.strip() for line in start.split(b"\n")]
    complete = [line for line in (head if whole else head[:-1]) if line]
    if not complete or complete[0][:1] == b"[":
        return False
    if _is_lines_name(filename) or complete[0][:1] != b"{":
        return any(_reads(line) for line in complete[:_LINES_TRIED])
    if _reads(complete[0]):
        return len(complete) > 1
    # A first line that is open may begin a document over many lines, or be a damaged line.
    if complete[0][-1:] in b"{[,:":
        return False
    return any(line[:1] == b"{" and _reads(line) for line in complete[1:_LINES_TRIED])


def _is_lines_name(filename: str | None) -> bool:
    name = (filename or "").lower().removesuffix(".gz")
    return name.endswith((".jsonl", ".ndjson"))


def _reads(line: bytes) -> bool:
    return decode_line(line, _HEAD_BYTES, copied=False)[1] is None


def _line_samples(source: Source, copied: bool) -> list[Any]:
    found: list[Any] = []
    limit = source.limits.max_item_bytes
    with contextlib.suppress(MalformedError):
        for number, raw in lines(source.chunks(), limit):
            if len(found) >= _SAMPLES or (number > _LINES_TRIED and found):
                break
            value, fault = decode_line(raw, limit, copied=copied)
            if fault is None and isinstance(value, dict | str):
                found.extend(inner for _, inner in unwrapped(value))
    return found[:_SAMPLES]


class _Enough(Exception):  # noqa: N818 - it ends the look, it is no error
    """The shape is known and the budget of the survey is spent."""


class _Survey:
    """One look through a JSON document."""

    def __init__(self, source: Source, copied: bool) -> None:
        self._limits = source.limits
        self._copied = copied
        self._cursor = Cursor(document_chunks(source, copied=copied), _HEAD_BYTES)
        self._samples: dict[str, list[Any]] = {}
        self._keys: set[str] = set()
        self._lists: set[str] = set()
        self._values: dict[str, Any] = {}
        self._only_lists = True
        self._whole = False

    def run(self) -> Head:
        kind: Kind = "array"
        try:
            if self._cursor.peek() == b"[":
                self._array("", stop_early=True)
            else:
                kind = "item"
                self._object()
            self._whole = True
        except (_Enough, MalformedError):
            pass
        if kind == "item":
            kind = self._kind_of_object()
        return Head(
            kind,
            frozenset(self._keys),
            frozenset(self._lists),
            tuple(self._chosen_samples(kind)),
            self._copied,
            self._values,
            self._whole,
        )

    def _chosen_samples(self, kind: Kind) -> Iterator[Any]:
        if kind == "item":
            yield dict.fromkeys(self._keys, "x")
            return
        for key, samples in self._samples.items():
            if kind != "sections" or key in SECTION_KEYS:
                yield from samples

    def _kind_of_object(self) -> Kind:
        if is_whole(self._keys) and self._lists & RESERVED_KEYS:
            return "item"
        if self._lists & RESERVED_KEYS:
            return "sections"
        if self._only_lists and self._lists:
            return "per_owner"
        return "sections" if self._lists & SECTION_KEYS else "item"

    def _array(self, key: str, *, stop_early: bool = False) -> None:
        full = len(self._samples) >= _MAX_SAMPLED_KEYS and key not in SECTION_KEYS
        samples = [] if full else self._samples.setdefault(key, [])
        for _ in self._cursor.elements():
            if full or len(samples) >= _SAMPLES:
                if stop_early:
                    raise _Enough
                self._check_budget()
                self._cursor.skip()
                continue
            value, fault = decode(self._cursor.value(), _HEAD_BYTES)
            if fault is None:
                samples.extend(inner for _, inner in unwrapped(value))

    def _object(self, *, inside: bool = False) -> None:
        for raw in self._cursor.members():
            key, _ = decode(raw, _HEAD_BYTES)
            self._member(key if isinstance(key, str) else "", inside=inside)
            self._check_budget()

    def _member(self, key: str, *, inside: bool) -> None:
        opening = self._cursor.peek()
        if len(self._keys) < _MAX_KEYS or key in SECTION_KEYS | WHOLE_KEYS:
            self._keys.add(key)
        if opening == b"[":
            self._note_list(key)
            self._array(key)
        elif opening == b"{" and key in ENVELOPES and not inside:
            self._object(inside=True)
        elif opening == b"{":
            self._inner_object(key)
        else:
            self._only_lists = False
            self._note_value(key)

    def _note_value(self, key: str) -> None:
        value, fault = decode(self._cursor.value(), _MAX_VALUE_BYTES)
        if fault is None and len(self._values) < _MAX_KEYS:
            self._values[key] = value

    def _note_list(self, key: str) -> None:
        if len(self._lists) < _MAX_KEYS or key in SECTION_KEYS:
            self._lists.add(key)

    def _inner_object(self, key: str) -> None:
        holds_results = False
        for raw in self._cursor.members():
            if raw == b'"results"' and self._cursor.peek() == b"[":
                holds_results = True
                self._array(key)
            else:
                self._cursor.skip()
        if holds_results and key not in RESERVED_KEYS:
            self._note_list(key)
        self._only_lists = self._only_lists and holds_results

    def _check_budget(self) -> None:
        if self._lists & RESERVED_KEYS and self._cursor.consumed_bytes > self._limits.survey_bytes:
            raise _Enough


def _not_an_export(start: bytes) -> MalformedError:
    kinds = {b"SQ": "a SQLite database", b"%P": "a PDF", b"PG": "pg_dump"}
    seen = kinds.get(
        start.lstrip()[:2], "neither JSON nor CSV with a header that has a text column"
    )
    columns = ", ".join(TEXT_COLUMNS)
    return MalformedError(
        "unknown_format",
        f"The file is {seen}. Accepted are a JSON array or object, JSON Lines, CSV whose header "
        f"names one of {columns}, and the Markdown of mem0's plugin; each may be gzipped or lie "
        "in a zip or tar archive.",
        cure="Export as JSON; docs/import.md shows how for each vendor.",
    )
