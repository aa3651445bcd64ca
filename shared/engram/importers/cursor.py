"""A pull reader over JSON text that holds one element at a time, whatever the file's size.

It finds where values begin and end, counting brackets without recursion, and leaves their
meaning to the strict JSON reader: so a broken element fails alone, an over-long one is passed
over unheld, and nesting costs a counter.
"""

import re
from collections.abc import Iterator

from engram.errors import MalformedError

_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
# Possessive, so that a long value costs no memory of ways to go back. The first ends at a bracket,
# at the end, or at the quote of a string that the data at hand does not close.
_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
_TO_QUOTE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR_END = re.compile(rb'[ \t\r\n,\]}\[{":]')
_NO_VALUE = (b",", b"]", b"}", b":", b"")


class Cursor:
    """Walks JSON text given in chunks."""

    def __init__(self, chunks: Iterator[bytes], max_value_bytes: int) -> None:
        self._chunks = chunks
        self._max_value_bytes = max_value_bytes
        self._data = b""
        self._at = 0
        self._dropped = 0
        self._keep_from: int | None = None
        self._line = 1
        self._line_start = 0
        self._counted = 0

    @property
    def line(self) -> int:
        """Line of the current position, from 1."""
        self._count_lines(self._at)
        return self._line

    @property
    def consumed_bytes(self) -> int:
        """Bytes of text already passed."""
        return self._dropped + self._at

    def peek(self) -> bytes:
        """Return the next byte that is not white space, b"" at the end, and stay before it."""
        while True:
            match = _NOT_SPACE.search(self._data, self._at)
            if match is not None:
                self._at = match.start()
                return match[0]
            self._at = len(self._data)
            if not self._fill():
                return b""

    def take(self, byte: bytes) -> bool:
        """Pass ``byte`` if it comes next, and say whether it did."""
        if self.peek() != byte:
            return False
        self._at += 1
        return True

    def expect(self, byte: bytes) -> None:
        """Pass ``byte``.

        Raises:
            MalformedError: something else comes.
        """
        if not self.take(byte):
            raise self.broken(f"expected {byte.decode()!r}")

    def elements(self) -> Iterator[None]:
        """Enter an array and stop before each element, which the caller passes."""
        self.expect(b"[")
        if self.take(b"]"):
            return
        while True:
            if self.peek() in _NO_VALUE:
                raise self.broken("expected a value")
            yield
            if self.take(b"]"):
                return
            self.expect(b",")

    def members(self) -> Iterator[bytes | None]:
        """Enter an object; yield each key's text (None if too long) and stop before its value."""
        self.expect(b"{")
        if self.take(b"}"):
            return
        while True:
            if self.peek() != b'"':
                raise self.broken("expected a key")
            key = self.value()
            self.expect(b":")
            if self.peek() in _NO_VALUE:
                raise self.broken("expected a value")
            yield key
            if self.take(b"}"):
                return
            self.expect(b",")

    def value(self) -> bytes | None:
        """Pass one value and return its text, None when it is longer than the limit.

        Raises:
            MalformedError: the text ends before the value does.
        """
        first = self.peek()
        self._keep_from = self._at
        self._pass(first)
        start, self._keep_from = self._keep_from, None
        if start is None or self._at - start > self._max_value_bytes:
            return None
        return self._data[start : self._at]

    def skip(self) -> None:
        """Pass one value without holding it.

        Raises:
            MalformedError: the text ends before the value does.
        """
        self._pass(self.peek())

    def broken(self, what: str) -> MalformedError:
        """Return the error for the current position; columns count bytes from 1."""
        self._count_lines(self._at)
        column = self._dropped + self._at - self._line_start + 1
        seen = "the text ends too early" if self._at >= len(self._data) else what
        return MalformedError(
            "malformed_json",
            f"Not valid JSON at line {self._line}, column {column}: {seen}.",
            cure="Export again, or repair the file there; what came before was read.",
        )

    def _pass(self, first: bytes) -> None:
        if first == b'"':
            self._at += 1
            self._pass_string()
        elif first in (b"[", b"{"):
            self._pass_nest()
        else:
            self._pass_scalar()

    def _pass_nest(self) -> None:
        depth = 0
        while True:
            self._at = self._end_of(_TO_BRACKET)
            byte = self._data[self._at : self._at + 1]
            if not byte:
                self._need()
                continue
            self._at += 1
            if byte == b'"':
                self._pass_string()
                continue
            depth += 1 if byte in b"[{" else -1
            if depth == 0:
                return

    def _pass_string(self) -> None:
        while True:
            self._at = self._end_of(_TO_QUOTE)
            byte = self._data[self._at : self._at + 1]
            if byte == b'"':
                self._at += 1
                return
            # The data ends here, or with the first half of an escape.
            self._need()
            if byte:
                self._at += 2

    def _end_of(self, pattern: re.Pattern[bytes]) -> int:
        match = pattern.match(self._data, self._at)
        return self._at if match is None else match.end()

    def _pass_scalar(self) -> None:
        # One byte at least, so that a stray delimiter cannot stop the walk for ever.
        self._at += 1
        while True:
            match = _SCALAR_END.search(self._data, self._at)
            if match is not None:
                self._at = match.start()
                return
            self._at = len(self._data)
            if not self._fill():
                return

    def _need(self) -> None:
        if not self._fill():
            self._at = len(self._data)
            raise self.broken("a value is not closed")

    def _fill(self) -> bool:
        chunk = next((chunk for chunk in self._chunks if chunk), None)
        if chunk is None:
            return False
        if self._keep_from is not None and self._at - self._keep_from > self._max_value_bytes:
            self._keep_from = None
        cut = self._at if self._keep_from is None else self._keep_from
        self._count_lines(cut)
        self._data = self._data[cut:] + chunk
        self._dropped += cut
        self._at -= cut
        self._counted = max(self._counted - cut, 0)
        if self._keep_from is not None:
            self._keep_from -= cut
        return True

    def _count_lines(self, upto: int) -> None:
        if upto <= self._counted:
            return
        new = self._data.count(b"\n", self._counted, upto)
        if new:
            self._line += new
            self._line_start = self._dropped + self._data.rindex(b"\n", self._counted, upto) + 1
        self._counted = upto
