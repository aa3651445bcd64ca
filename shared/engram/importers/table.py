"""CSV with a header line, one row at a time, quoted line breaks and all."""

import csv
from collections.abc import Iterator

from engram.errors import Fault, MalformedError
from engram.importers.lines import lines
from engram.importers.record import Element

_DELIMITERS = ",;\t|"


def header_of(line: str, known: frozenset[str]) -> tuple[str, list[str]] | None:
    """Return (delimiter, column names) when ``line`` heads a table with a known column."""
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        names = [name.strip() for name in names]
        if not known.isdisjoint(n.lower() for n in names) and len(set(names)) == len(names):
            return delimiter, [n.lower() if n.lower() in known else n for n in names]
    return None


class Table:
    """Rows of a CSV text as elements.

    Attributes:
        delimiter: what separates fields.
        names: column names.
    """

    def __init__(self, delimiter: str, names: list[str], max_row_bytes: int) -> None:
        self.delimiter = delimiter
        self.names = names
        self._max_row_bytes = max_row_bytes
        self._row_bytes = 0

    def rows(self, chunks: Iterator[bytes]) -> Iterator[Element]:
        """Yield one element for each row after the header.

        Raises:
            MalformedError: a quote is never closed or stands in the wrong place.
        """
        reader = csv.reader(self._text_lines(chunks), delimiter=self.delimiter, strict=True)
        start = 1
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise _broken(start, str(error)) from None
            if fields is None:
                return
            self._row_bytes = 0
            if fields and start > 1:
                yield self._element(fields, start)
            start = reader.line_num + 1

    def _text_lines(self, chunks: Iterator[bytes]) -> Iterator[str]:
        for number, line in lines(chunks, self._max_row_bytes):
            # A row may span lines: what counts against the limit is the row.
            self._row_bytes += self._max_row_bytes + 1 if line is None else len(line)
            if line is None or self._row_bytes > self._max_row_bytes:
                raise _broken(number, "the row is longer than an import reads")
            yield line.decode("utf-8", "surrogateescape") + "\n"

    def _element(self, fields: list[str], line: int) -> Element:
        if len(fields) != len(self.names):
            detail = f"The row has {len(fields)} fields, the header {len(self.names)}."
            return Element(line, fault=Fault("", "malformed_row", detail))
        if not all(field.isascii() or _is_unicode(field) for field in fields):
            return Element(line, fault=Fault("", "not_utf8", "The row is not valid UTF-8."))
        # PostgreSQL writes NULL as an empty field and '' as "": the reader sees both as "".
        return Element(line, value={n: f for n, f in zip(self.names, fields, strict=True) if f})


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken(line: int, what: str) -> MalformedError:
    return MalformedError(
        "malformed_csv",
        f"Not valid CSV in the row that starts at line {line}, column 1: {what}.",
        cure="Export again with COPY … CSV HEADER; what came before was read.",
    )
