"""Back-pressure: who must wait because too much is waiting already, one workspace before all."""

import asyncio
from collections import Counter
from uuid import UUID

import structlog

from engram import metrics
from engram.errors import BusyError
from engram.storage import outbox
from engram.storage.connection import UNREACHABLE, Pool

log = structlog.get_logger(__name__)

# A workspace is refused at a quarter of what closes the door for everybody.
_WORKSPACE_SHARE = 4
# Import jobs wait at an eighth: half of what closes the door for one workspace.
_IMPORT_SHARE = 8
_SAMPLE_S = 1.0
_RETRY_QUEUE_S = 1.0
_RETRY_OUTBOX_S = 5.0


class Admission:
    """Looks at the ingest queue and the outbox, and never at the provider.

    Args:
        queue_limit: memories waiting in this process before all are refused.
        outbox_limit: unpublished outbox lines before all are refused.
    """

    def __init__(self, queue_limit: int, outbox_limit: int) -> None:
        self._queue_limit = queue_limit
        self._outbox_limit = outbox_limit
        self._waiting: Counter[UUID] = Counter()
        self._total = 0
        self._outbox = 0
        self._outbox_by_workspace: dict[UUID, int] = {}
        self._room = asyncio.Event()
        self._room.set()

    def enter(self, workspace: UUID, memories: int) -> None:
        """Count memories in.

        Raises:
            BusyError: too many wait; it says for how long to stay away.
        """
        self._check_outbox(workspace)
        self._check_queue(workspace)
        self._waiting[workspace] += memories
        self._total += memories
        metrics.QUEUED.set(self._total)

    def leave(self, workspace: UUID, memories: int) -> None:
        """Count memories out again."""
        self._waiting[workspace] -= memories
        if not self._waiting[workspace]:
            del self._waiting[workspace]
        self._total -= memories
        metrics.QUEUED.set(self._total)

    def _check_queue(self, workspace: UUID) -> None:
        if self._waiting[workspace] >= max(1, self._queue_limit // _WORKSPACE_SHARE):
            raise _busy("workspace_queue", "This workspace has", _RETRY_QUEUE_S)
        if self._total >= self._queue_limit:
            raise _busy("queue", "The server has", _RETRY_QUEUE_S)

    def _check_outbox(self, workspace: UUID) -> None:
        mine = self._outbox_by_workspace.get(workspace, 0)
        if mine >= max(1, self._outbox_limit // _WORKSPACE_SHARE):
            raise _busy("workspace_outbox", "This workspace has", _RETRY_OUTBOX_S)
        if self._outbox >= self._outbox_limit:
            raise _busy("outbox", "The server has", _RETRY_OUTBOX_S)

    async def room_for_import(self) -> None:
        """Return when an import job may write its next batch.

        A job is never refused and takes no part of the queue: it waits here. It stops long before
        publishers are refused, so that what it announces never closes the door on them.
        """
        await self._room.wait()

    async def run(self, pool: Pool) -> None:
        """Sample the outbox until cancelled."""
        while True:
            try:
                await self.sample(pool)
            except UNREACHABLE as error:
                log.warning("outbox not measured", error=type(error).__name__)
            await asyncio.sleep(_SAMPLE_S)

    async def sample(self, pool: Pool) -> None:
        """Measure the outbox once."""
        async with pool.acquire() as connection:
            self._outbox = await outbox.depth(connection, self._outbox_limit)
            if self._outbox < max(1, self._outbox_limit // _IMPORT_SHARE):
                self._room.set()
            else:
                self._room.clear()
            deep = self._outbox >= self._outbox_limit // _WORKSPACE_SHARE
            self._outbox_by_workspace = await outbox.depth_by_workspace(connection) if deep else {}


def _busy(reason: str, who: str, retry_after_s: float) -> BusyError:
    metrics.REFUSED.labels(reason).inc()
    return BusyError(
        "too_busy",
        f"{who} too many memories waiting to be stored or announced.",
        cure=f"Send again after {retry_after_s:.0f} s, with the same Idempotency-Key.",
        retry_after_s=retry_after_s,
    )
