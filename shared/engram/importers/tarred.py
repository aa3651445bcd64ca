"""Tar archives (ustar, GNU and pax names), plain or gzipped: every file as a stream.

The layout is that of POSIX.1-2001, "pax Interchange Format". `tarfile` is not used: it reads
headers of any length into memory.
"""

import io
import weakref
from collections.abc import Iterator

from engram.errors import MalformedError
from engram.importers.members import (
    Member,
    bad_archive,
    refuse_unsafe,
    shown,
    too_many_members,
)
from engram.importers.source import Limits, Source, Stream, spooled

_BLOCK_BYTES = 512
_MAGIC_AT = 257
_MAX_HEADER_BYTES = 64 * 1024
_FILES = (b"0", b"\0", b"7")
_FOLDER = b"5"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX, _PAX_GLOBAL = b"x", b"g"


def is_tar(source: Source) -> bool:
    """Say whether a file, gzipped or not, begins like a tar archive."""
    head = b""
    try:
        for chunk in source.unpacked():
            head += chunk
            if len(head) >= _BLOCK_BYTES:
                break
    except MalformedError:
        return False
    return head[_MAGIC_AT : _MAGIC_AT + 5] == b"ustar"


def tar_members(source: Source) -> list[Member]:
    """Return the files of a tar archive; its folders are left out.

    A gzipped one is unpacked to a temporary file, because its files are read more than once.

    Raises:
        MalformedError: a damaged archive, or an entry that is no file.
        TooLargeError: too many entries, more bytes than the limits, or a decompression bomb.
    """
    limits = source.limits
    if source.first_bytes(2) == b"\x1f\x8b":
        holder, start = _Holder(spooled(source.unpacked(), limits), own=True), 0
    else:
        holder = _Holder(source.stream, own=False)
        start = holder.stream.tell()
    members = []
    for name, at, size_bytes in _entries(holder.stream, start, limits):
        members.append(_member(holder, name, at, size_bytes, limits))
        if len(members) > limits.max_members:
            raise too_many_members(limits)
    return members


class _Holder:
    """Keeps a temporary file open as long as a member may be read from it."""

    def __init__(self, stream: Stream, *, own: bool) -> None:
        self.stream = stream
        if own:
            weakref.finalize(self, stream.close)


def _member(holder: _Holder, name: str, at: int, size_bytes: int, limits: Limits) -> Member:
    return Member(name, size_bytes, lambda: Slice(holder, at, size_bytes), limits)


def _entries(stream: Stream, at: int, limits: Limits) -> Iterator[tuple[str, int, int]]:
    """Yield (name, position, size in bytes) of each file."""
    long_name, headers = None, 0
    while header := _header(stream, at):
        at += _BLOCK_BYTES
        kind, size_bytes = header[156:157], _number(header[124:136])
        headers += 1
        if headers > 4 * limits.max_members:
            raise too_many_members(limits)
        if kind in (_LONG_NAME, _PAX):
            long_name = _long_name(stream, at, size_bytes, kind) or long_name
        elif kind not in (_LONG_LINK, _PAX_GLOBAL):
            name = (long_name or _short_name(header)).removeprefix("./").rstrip("/")
            long_name = None
            yield from _file(name, kind, at, size_bytes)
        at += -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def _file(name: str, kind: bytes, at: int, size_bytes: int) -> Iterator[tuple[str, int, int]]:
    if kind == _FOLDER and name in ("", "."):
        return
    refuse_unsafe(name)
    if kind in _FILES:
        yield name, at, size_bytes
    elif kind != _FOLDER:
        raise MalformedError(
            "unsafe_archive",
            f"The entry {shown(name)} is no regular file.",
            cure="Unpack it yourself and import the files, if you trust them.",
        )


def _header(stream: Stream, at: int) -> bytes | None:
    stream.seek(at)
    header = stream.read(_BLOCK_BYTES)
    if len(header) < _BLOCK_BYTES:
        raise bad_archive("is cut off")
    if header == bytes(_BLOCK_BYTES):
        return None
    if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise bad_archive("is damaged: a header's sum is wrong")
    return header


def _number(field: bytes) -> int:
    if field[:1] == b"\x80":
        # GNU's way to write sizes of 8 GiB and more.
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if digits.strip(b"01234567"):
        raise bad_archive("is damaged: a header holds no number")
    return int(digits, 8)


def _short_name(header: bytes) -> str:
    name, prefix = _text(header[:100]), ""
    if header[_MAGIC_AT : _MAGIC_AT + 6] == b"ustar\0":
        prefix = _text(header[345:500])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _long_name(stream: Stream, at: int, size_bytes: int, kind: bytes) -> str | None:
    if size_bytes > _MAX_HEADER_BYTES:
        raise bad_archive("is damaged: a header is longer than any name")
    stream.seek(at)
    data = stream.read(size_bytes)
    return _text(data) if kind == _LONG_NAME else _pax_path(data)


def _pax_path(data: bytes) -> str | None:
    """Return the path of a pax header, whose records are ``length key=value`` and a line break."""
    found, at = None, 0
    while at < len(data):
        digits = data[at : at + 8].split(b" ", 1)[0]
        if not digits.isdigit() or int(digits) <= len(digits):
            raise bad_archive("is damaged: a header breaks its format")
        key, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if key == b"path":
            found = _text(value)
        elif key == b"size":
            raise bad_archive("holds a file of 8 GiB or more")
        at += int(digits)
    return found


class Slice(io.RawIOBase):
    """A part of a stream as a stream of its own.

    Raises `engram.errors.MalformedError` where the stream ends too early.
    """

    def __init__(self, holder: _Holder, start: int, size_bytes: int) -> None:
        self._holder = holder
        self._start = start
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought."""
        return True

    def tell(self) -> int:
        """Return the position inside."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position counted from the beginning or the end."""
        base = self._size_bytes if whence == io.SEEK_END else 0
        self._at = max(base + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        left = max(self._size_bytes - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        self._holder.stream.seek(self._start + self._at)
        data = self._holder.stream.read(wanted)
        if wanted and not data:
            raise bad_archive("is cut off")
        self._at += len(data)
        return data
