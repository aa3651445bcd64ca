"""Zip archives: every entry as a stream, after the directory was checked for what attacks do.

The layout read here before `zipfile` does is that of APPNOTE.TXT 6.3, sections 4.3.14 to 4.3.16.
"""

import errno
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TypeVar

from engram.errors import MalformedError
from engram.importers.members import (
    Member,
    bad_archive,
    refuse_unsafe,
    shown,
    too_many_members,
)
from engram.importers.source import RATIO_FREE_BYTES, Limits, Source, Stream, bomb

_SIGNS = (b"PK\x03\x04", b"PK\x05\x06")
_END, _END_BYTES = b"PK\x05\x06", 22
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_END64, _END64_BYTES = b"PK\x06\x06", 56
_MAX_COMMENT_BYTES = 65_535
_MAX_DIRECTORY_BYTES = 4 * 1024**2
_ENCRYPTED = 0x1
# The upper half of the attributes is a Unix mode: none, a folder, a regular file; 10 is a link.
_FILE_KINDS = (0, 4, 8)
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)
_BROKEN_TOO = (ValueError, OverflowError, IndexError, NotImplementedError, RuntimeError)
T = TypeVar("T")


def is_zip(source: Source) -> bool:
    """Say whether a file begins like a zip archive."""
    return source.first_bytes(4) in _SIGNS


def zip_members(source: Source) -> list[Member]:
    """Return the files of a zip archive; its folders are left out.

    Raises:
        MalformedError: a damaged archive, an encrypted entry, one that is no file, or one that is
            compressed in another way than deflate, whose output could not be bounded.
        TooLargeError: too many entries, or a decompression bomb.
    """
    limits = source.limits
    size_bytes = _measured(source.stream, limits)
    archive = _sound(lambda: zipfile.ZipFile(source.stream))
    for entry in archive.infolist():
        _refuse(entry)
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    unpacked_bytes = sum(entry.file_size for entry in entries)
    if unpacked_bytes > RATIO_FREE_BYTES and unpacked_bytes > size_bytes * limits.max_ratio:
        raise bomb(limits)
    return [_member(archive, entry, limits) for entry in entries]


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limits: Limits) -> Member:
    # The name up to a NUL is what zipfile shows; the check is for the whole one.
    name = entry.orig_filename.removeprefix("./")
    return Member(name, entry.file_size, lambda: Unzipped(archive, entry), limits)


def _refuse(entry: zipfile.ZipInfo) -> None:
    refuse_unsafe(entry.orig_filename.removesuffix("/"))
    what = None
    if entry.flag_bits & _ENCRYPTED:
        what = "is encrypted"
    elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        what = "is neither stored nor deflated"
    elif entry.external_attr >> 28 not in _FILE_KINDS:
        what = "is no regular file"
    if what:
        raise MalformedError(
            "unsafe_archive",
            f"The entry {shown(entry.filename)} {what}.",
            cure="Unpack it yourself and import the files, if you trust them.",
        )


def _measured(stream: Stream, limits: Limits) -> int:
    """Return the archive's size in bytes; `zipfile` would hold a directory of any size."""
    size = stream.seek(0, io.SEEK_END)
    start = max(size - _END_BYTES - _MAX_COMMENT_BYTES, 0)
    stream.seek(start)
    tail = stream.read(size - start)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise bad_archive("is cut off: a zip archive without a directory")
    directory_bytes = struct.unpack("<I", tail[at + 12 : at + 16])[0]
    large = _end64(stream, start + at)
    if large is not None:
        directory_bytes = struct.unpack("<Q", large[40:48])[0]
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise too_many_members(limits)
    return size


def _end64(stream: Stream, end: int) -> bytes | None:
    """Return the zip64 end record, which lies right before its locator and that before the end."""
    stream.seek(max(end - _LOCATOR_BYTES - _END64_BYTES, 0))
    found = stream.read(_END64_BYTES + _LOCATOR_BYTES)
    is_large = found[:4] == _END64 and found[_END64_BYTES:][:4] == _LOCATOR
    return found[:_END64_BYTES] if is_large else None


def _sound(work: Callable[[], T]) -> T:
    # zipfile's own messages quote names and offsets of the file.
    broken = bad_archive("is damaged or of a kind that is not read")
    try:
        return work()
    except (*_BROKEN, *_BROKEN_TOO):
        raise broken from None
    except OSError as error:
        # An offset before the beginning of the file; a stream's own trouble is not the archive's.
        if error.errno != errno.EINVAL:
            raise
        raise broken from None


class Unzipped(io.RawIOBase):
    """The bytes of one entry; seeking to the beginning opens it again.

    Reading raises `engram.errors.MalformedError` where the entry is damaged.
    """

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        self._archive = archive
        self._entry = entry
        self._bytes = _sound(lambda: archive.open(entry))
        self._at = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that its beginning can be sought."""
        return True

    def tell(self) -> int:
        """Return how many bytes were read since the beginning."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to the beginning, the only place that is sought here."""
        if offset or whence != io.SEEK_SET:
            raise io.UnsupportedOperation("seek")
        if self._at:
            self._bytes.close()
            self._bytes = _sound(lambda: self._archive.open(self._entry))
            self._at = 0
        return 0

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        data = _sound(lambda: self._bytes.read(size))
        self._at += len(data)
        return data
