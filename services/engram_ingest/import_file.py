"""The body of a job as a file: read in a thread, a chunk at a time, from Postgres."""

import asyncio
import io
from typing import BinaryIO, cast

from engram.errors import UnavailableError
from engram.storage import importing
from engram.storage.connection import Pool, about
from engram.storage.importing import Job
from engram_ingest.import_uploads import CHUNK_BYTES

_PATIENCE_S = 60.0


class StoppedError(Exception):
    """The job is not wanted any more; its reading ends here."""


class ChunkFile(io.RawIOBase):
    """A seekable file over the chunks of a job; holds one of them.

    Args:
        loop: runs the queries, while the thread that reads waits.
        pool: of the API role.
        job: whose body it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, job: Job) -> None:
        super().__init__()
        self._loop = loop
        self._pool = pool
        self._job = job
        self._at = 0
        self._part = -1
        self._data = b""
        self.stopped = False

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
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._job.body_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer is one
        """Fill up to the end of the current chunk.

        Raises:
            StoppedError: the job is not wanted any more.
        """
        if self.stopped:
            raise StoppedError
        if self._at >= self._job.body_bytes:
            return 0
        part, offset = divmod(self._at, CHUNK_BYTES)
        if part != self._part:
            self._data, self._part = self._fetch(part), part
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _fetch(self, part: int) -> bytes:
        asked = asyncio.run_coroutine_threadsafe(self._chunk(part), self._loop)
        return asked.result(_PATIENCE_S)

    async def _chunk(self, part: int) -> bytes:
        job = self._job
        async with about(self._pool, [job.workspace]) as connection:
            data = await importing.chunk(connection, job.workspace, job.id, part)
        if data is None:
            # Ended and swept under our feet: the next write would be refused, too.
            raise UnavailableError("import_body_gone", "The body of the import was erased.")
        return data


def buffered(file: ChunkFile) -> BinaryIO:
    """Return the file with reads that come back short only at its end."""
    return cast("BinaryIO", io.BufferedReader(file, 256 * 1024))
