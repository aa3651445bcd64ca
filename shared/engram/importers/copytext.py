r"""JSON that went through PostgreSQL's COPY text format, which doubles every backslash.

``COPY (SELECT json_agg(t) …) TO STDOUT`` writes ``\"`` as ``\\"`` and ``\n`` as ``\\n``: the
first breaks the JSON, the second silently changes it. The whole file must therefore be known to
be COPY text before its first item is believed.
"""

import re
from collections.abc import Iterator

_RUN = re.compile(rb"\\+")
# A run of odd length that ends in none of the escapes that COPY TO writes.
_NOT_COPIED = re.compile(rb"(?<!\\)(?:\\\\)*+\\(?![\\ntrbfv])")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MEANING = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_COMPACT = re.compile(rb'\s*+\[\{"[^"\\]{1,63}+":\S')
_DOUBLED = re.compile(rb"(?<!\\)(?:\\\\\\\\)*+\\\\[nrt]")
_MARGIN_BYTES = 64
_STRUCTURE = b",:[]{}"


def is_copy_text(chunks: Iterator[bytes]) -> bool:
    """Say whether the backslashes of a JSON text were doubled by COPY.

    The first run of backslashes that only one reading allows decides. An even run before a quote
    that ends no string there is COPY's; an odd one before a quote, ``u`` or ``/`` is JSON's own,
    and so is one doubled backslash before what is no escape.
    A text whose every run fits both readings is COPY's when it is spaced as json_agg alone spaces
    it and holds what would be line breaks or tabs; else it is taken as plain JSON.
    """
    before, trace = b"", _Trace()
    for chunk in chunks:
        data = before + chunk
        verdict = _verdict(data, max(len(data) - _MARGIN_BYTES, 0))
        if verdict is not None:
            return verdict
        trace.look(data)
        # The margin is looked at again, with what follows it; half a run would lie about its
        # length, and this one has been judged.
        before = data[-2 * _MARGIN_BYTES :].lstrip(b"\\")
    verdict = _verdict(before, len(before))
    return trace.is_of_json_agg if verdict is None else verdict


class _Trace:
    """What a text shows of json_agg: no other writer parts rows by a blank, but not key and value.

    Nearly every text is known to be another's by its beginning, and costs nothing after that.
    """

    def __init__(self) -> None:
        self._head = b""
        self._rows_apart = False
        self._line_breaks = False

    def look(self, data: bytes) -> None:
        if len(self._head) < _MARGIN_BYTES:
            self._head = data[: 4 * _MARGIN_BYTES]
        if _COMPACT.match(self._head):
            self._rows_apart = self._rows_apart or b'}, {"' in data
            doubled = b"\\" in data and _DOUBLED.search(data) is not None
            self._line_breaks = self._line_breaks or doubled

    @property
    def is_of_json_agg(self) -> bool:
        return self._rows_apart and self._line_breaks


def _verdict(data: bytes, end: int) -> bool | None:
    position = 0
    while (position := data.find(b"\\", position, end)) >= 0:
        run = _RUN.match(data, position)
        if run is None:  # pragma: no cover - find() has just seen a backslash
            return None
        verdict = _of_run(data, run.start(), run.end())
        if verdict is not None:
            return verdict
        position = run.end()
    return None


def _of_run(data: bytes, start: int, end: int) -> bool | None:
    following = data[end : end + 1]
    if (end - start) % 2:
        return _of_odd_run(data, start, end, following)
    if (end - start) % 4 == 0 or not following:
        return None
    if following == b'"':
        # Plain JSON ends a string here, and then only these may come.
        after = data[end + 1 : end + 1 + _MARGIN_BYTES].lstrip(b" \t\r\n")[:1]
        return True if after and after not in b",:]}" else None
    # Undone, it would be an escape that JSON does not have.
    return None if following in b"nrtbfu/" else False


def _of_odd_run(data: bytes, start: int, end: int, following: bytes) -> bool | None:
    if following in (b'"', b"u", b"/"):
        return False
    if following not in (b"n", b"t", b"r", b"b", b"f"):
        return None
    # json_agg puts a line break between rows, outside any string: COPY writes it as \n.
    before = data[max(start - 8, 0) : start].rstrip(b" ")[-1:]
    after = data[end + 1 : end + 9].lstrip(b" ")[:1]
    between = before and before in _STRUCTURE and after and after in b'{["}]\\'
    return None if between and end - start == 1 else False


def may_be_copied(data: bytes) -> bool:
    """Say whether every backslash could be COPY's: undoing others would change the text."""
    return _NOT_COPIED.search(data) is None


def undo_copy(data: bytes) -> bytes:
    r"""Return ``data`` with COPY's escapes undone: ``\\`` to ``\``, ``\n`` to a line break."""
    return _ESCAPED.sub(_meaning, data)


def _meaning(match: re.Match[bytes]) -> bytes:
    return _MEANING.get(match[1], match[1])


def undo_copy_stream(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks with COPY's escapes undone, also those that a chunk border cuts."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        run = len(data) - len(data.rstrip(b"\\"))
        cut = len(data) - run % 2
        held = data[cut:]
        yield undo_copy(data[:cut])
    if held:
        yield held
