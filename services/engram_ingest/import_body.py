"""The body of a job as a seekable file that is fetched a chunk at a time."""

import io
from abc import abstractmethod
from typing import BinaryIO, cast

CHUNK_BYTES = 1024 * 1024


class StoppedError(Exception):
    """The job is not wanted any more; its reading ends here."""


class BodyFile(io.RawIOBase):
    """A file over chunks of one size; holds one of them.

    Args:
        body_bytes: its size.
    """

    def __init__(self, body_bytes: int) -> None:
        super().__init__()
        self.body_bytes = body_bytes
        self._at = 0
        self._part = -1
        self._data = b""

    @abstractmethod
    def chunk(self, part: int) -> bytes:
        """Return one chunk; waits for it."""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.body_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer is one
        """Fill up to the end of the current chunk."""
        if self._at >= self.body_bytes:
            return 0
        part, offset = divmod(self._at, CHUNK_BYTES)
        if part != self._part:
            self._data, self._part = self.chunk(part), part
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def buffered(file: BodyFile) -> BinaryIO:
    """Return the file with reads that come back short only at its end."""
    return cast("BinaryIO", io.BufferedReader(file, 256 * 1024))
