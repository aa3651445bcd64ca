"""The body of a job out of Postgres, for the thread that reads it."""

import asyncio

from engram.errors import UnavailableError
from engram.storage import importing
from engram.storage.connection import Pool, about
from engram.storage.importing import Job
from engram_ingest.import_body import BodyFile, StoppedError

_PATIENCE_S = 60.0


class ChunkFile(BodyFile):
    """A file over the chunks of a job.

    Args:
        loop: runs the queries, while the thread that reads waits.
        pool: of the API role.
        job: whose body it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, job: Job) -> None:
        super().__init__(job.body_bytes)
        self._loop = loop
        self._pool = pool
        self._job = job
        self.stopped = False

    def chunk(self, part: int) -> bytes:
        """Return one chunk.

        Raises:
            StoppedError: the job is not wanted any more.
            UnavailableError: Postgres cannot be asked, or the body was erased.
        """
        if self.stopped:
            raise StoppedError
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
