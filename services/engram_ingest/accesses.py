"""Counts what searches find, in memory, and writes it down every few seconds in ordered batches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog

from engram import metrics
from engram.serving.process import background
from engram.storage.accessing import Access, count_accesses
from engram.storage.connection import Pool

log = structlog.get_logger(__name__)

BATCH = 1_000
# Each entry is a few hundred bytes; beyond it, what is found for the first time is not counted.
MAX_WAITING = 100_000
EVERY_S = 5.0
_LAST_FLUSH_S = 5.0


class Accesses:
    """Which memories were found since the last flush, and how often.

    A process that is killed loses what it has not flushed: at most one interval. Nothing is lost
    while Postgres is away, up to the bound; nothing waits for a row that another one holds.

    Args:
        pool: of the API role.
        every_s: seconds between two flushes.
    """

    def __init__(self, pool: Pool, every_s: float = EVERY_S) -> None:
        self._pool = pool
        self._every_s = every_s
        self._waiting: dict[tuple[UUID, UUID], Access] = {}

    def note(self, workspace: UUID, ids: Iterable[UUID]) -> None:
        """Count that these memories were found now; costs no I/O."""
        now = datetime.now(UTC)
        for memory_id in ids:
            self._add(Access(workspace, memory_id, 1, now))

    def _add(self, access: Access) -> None:
        known = self._waiting.get(access.key)
        if known is not None:
            hits, at = known.hits + access.hits, max(known.at, access.at)
            self._waiting[access.key] = Access(access.workspace, access.id, hits, at)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[access.key] = access
        else:
            metrics.ACCESSES.labels("dropped").inc(access.hits)

    @property
    def waiting(self) -> int:
        """How many memories have hits that are not written."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Flush while inside, and once more on leaving."""
        try:
            async with background(self._run()):
                yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_FLUSH_S):
                    await self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.flush()

    async def flush(self) -> None:
        """Write down what waits, in ascending id; what could not be written waits on."""
        taken, self._waiting = self._waiting, {}
        left = [taken[key] for key in sorted(taken)]
        try:
            for _ in range(0, len(left), BATCH):
                again = await self._written(left[:BATCH])
                if again is None:
                    return
                left = left[BATCH:]
                self._keep(again)
        finally:
            # Failed or cancelled in the middle: what was not committed waits for the next flush.
            self._keep(left)
            metrics.ACCESSES_WAITING.set(self.waiting)

    def _keep(self, accesses: Iterable[Access]) -> None:
        for access in accesses:
            self._add(access)

    async def _written(self, batch: Sequence[Access]) -> Sequence[Access] | None:
        """Return what is to be tried again, None when nothing could be written at all."""
        try:
            left = await count_accesses(self._pool, batch)
        except Exception as error:  # noqa: BLE001 - a count that fails must not end the service
            log.warning("accesses wait", memories=len(batch), error=type(error).__name__)
            return None
        hits = sum(access.hits for access in batch) - sum(access.hits for access in left)
        metrics.ACCESSES.labels("settled").inc(hits)
        return left
