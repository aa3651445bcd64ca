"""The journal on disk: what is to be mirrored, in checksummed append-only segments.

A record is 4 bytes of length, 4 bytes of CRC-32 (both big-endian) and JSON. It names ids and scopes
of memories and never holds a text. A directory belongs to one process at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engram.errors import BusyError, UsageError
from engram.events import encode_json

_HEAD: Final = struct.Struct(">II")
_MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
SEGMENT_BYTES: Final = 1024 * 1024


def encode(record: dict[str, Any]) -> bytes:
    """Return a record as it lies on disk."""
    body = encode_json(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def decode(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the whole records at the start of a segment, and how many bytes they take."""
    records: list[dict[str, Any]] = []
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if size > _MAX_RECORD_BYTES or len(body) < size or zlib.crc32(body) != checksum:
            break
        records.append(json.loads(body))
        at += _HEAD.size + size
    return records, at


@dataclass(slots=True)
class _Segment:
    path: Path
    size_bytes: int = 0
    open_numbers: set[int] = field(default_factory=set)


class Journal:
    """Segments in one directory; only one thread may write.

    A number is open from its first record until it is closed. A segment is removed once no number
    with a record in it is open; what is read again after a crash is mirrored again, which changes
    nothing.

    Args:
        folder: made when it is absent.
        max_bytes: of all segments; beyond it an append is refused.
        segment_bytes: a segment that has reached this is followed by another.

    Raises:
        UsageError: another process has the directory, or it cannot be written.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self.damaged_bytes = 0
        self._lock = _locked(folder)
        try:
            self._segments = [self._read(path) for path in sorted(folder.glob("*.log"))]
        except OSError as error:
            os.close(self._lock)
            raise _unusable(folder, error) from error
        self._records = [record for _, records in self._segments for record in records]
        self._open_segments = [segment for segment, _ in self._segments]
        self._segments = []
        self._file: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size_bytes for segment in self._open_segments)

    def replay(self) -> list[dict[str, Any]]:
        """Return the records that were there when it was opened, oldest first, once."""
        records, self._records = self._records, []
        closed = {number for record in records for number in record.get("closed", ())}
        for segment in self._open_segments:
            segment.open_numbers -= closed
        self._drop_finished()
        return [one for one in records if "n" in one and one["n"] not in closed]

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records to the file, where a killed process cannot lose them; ``sync`` follows.

        Raises:
            BusyError: the journal is full.
            OSError: the disk refused.
        """
        encoded = b"".join(map(encode, records))
        numbers = {record["n"] for record in records if "n" in record}
        if numbers and self.size_bytes + len(encoded) > self._max_bytes:
            raise BusyError(
                "journal_full",
                f"The journal of writes to mirror has reached {self._max_bytes:,} bytes.",
                cure="Start NATS and engram again, or give max_journal_bytes more room.",
            )
        segment = self._active()
        try:
            _write(self._file, encoded)
        except OSError:
            self._cut_to(segment.size_bytes)
            raise
        segment.size_bytes += len(encoded)
        segment.open_numbers |= numbers

    def sync(self) -> None:
        """Wait until what was appended is on the disk."""
        if self._file is not None:
            os.fsync(self._file)

    def close_numbers(self, numbers: Sequence[int]) -> None:
        """Note that these are mirrored, and remove segments that nobody needs any more."""
        for segment in self._open_segments:
            segment.open_numbers.difference_update(numbers)
        with contextlib.suppress(OSError):  # not noted: it is mirrored once more after a restart
            self.append([{"closed": list(numbers)}])
        self._drop_finished()

    def close(self) -> None:
        """Close the files and let another process have the directory."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _read(self, path: Path) -> tuple[_Segment, list[dict[str, Any]]]:
        data = path.read_bytes()
        records, whole_bytes = decode(data)
        # What follows is a record that was being written when the process died, or damage.
        self.damaged_bytes += len(data) - whole_bytes
        numbers = {record["n"] for record in records if "n" in record}
        return _Segment(path, len(data), numbers), records

    def _active(self) -> _Segment:
        last = self._open_segments[-1] if self._open_segments else None
        if self._file is not None and last is not None and last.size_bytes < self._segment_bytes:
            return last
        # A segment of an earlier process is never written again: its end may be torn.
        number = int(last.path.stem) + 1 if last is not None else 1
        path = self._folder / f"{number:016d}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        opened = os.open(path, flags, 0o600)
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
        self._file = opened
        _sync_folder(self._folder)
        self._open_segments.append(_Segment(path))
        return self._open_segments[-1]

    def _cut_to(self, size_bytes: int) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._file or 0, size_bytes)

    def _drop_finished(self) -> None:
        keep = self._open_segments[-1:] if self._file is not None else []
        for segment in self._finished(keep):
            with contextlib.suppress(OSError):
                segment.path.unlink()
            self._open_segments.remove(segment)

    def _finished(self, keep: Sequence[_Segment]) -> Iterator[_Segment]:
        # From the oldest on only: a later segment says which of the earlier numbers are closed.
        for segment in list(self._open_segments):
            if segment.open_numbers or segment in keep:
                return
            yield segment


def _write(file: int | None, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file or 0, view) :]


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    import fcntl  # of Unix only: elsewhere the package can still be imported

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UsageError(
            "journal_in_use",
            f"Another process, or another writer of this one, uses {folder}.",
            cure="Give every process a journal directory of its own.",
        ) from error
    return lock


def _unusable(folder: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(
        "journal_unusable",
        f"The journal directory {folder} cannot be used: {reason}.",
        cure="Name a directory on a local disk that this process may write.",
    )


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
