"""How far the memories of an import job are embedded, counted without asking too much."""

import time
from uuid import UUID

from engram.storage import importing
from engram.storage.connection import Pool, about
from engram.storage.contention import until_won
from engram.storage.importing import Job
from engram.storage.spaces import read_space

_REMEMBERED = 1_000


class Embedding:
    """How many memories of a job are embedded, counted at most a tenth of the time.

    A count walks over all that the job stored, and whoever shows a bar asks twice a second.
    """

    def __init__(self) -> None:
        self._found: dict[UUID, tuple[float, tuple[int, int]]] = {}

    async def of(self, pool: Pool, job: Job) -> tuple[int, int]:
        """Return how many have a current vector, and how many wait for one."""
        if job.options["dry_run"] or not (job.ids or job.report["counts"]["updated"]):
            return 0, 0
        until, found = self._found.get(job.id, (0.0, (0, 0)))
        started = time.monotonic()
        if started < until:
            return found

        async def counted() -> tuple[int, int]:
            async with about(pool, [job.workspace]) as connection:
                space = await read_space(connection, job.workspace, None)
                return await importing.embedded(connection, job, space)

        found = await until_won(counted)
        spent_s = time.monotonic() - started
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[job.id] = (time.monotonic() + 9 * spent_s, found)
        return found
