"""One space's live lane: coalesces what bells name, and spills what is more than a fair share."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from engram import tracing
from engram.domain.lanes import spills
from engram.domain.linger import Arrivals
from engram.storage.ids import to_id
from engram.storage.vectors import MemoryId
from engram_embedder.bulk import Bulk
from engram_embedder.embedding import MAX_BATCH, Embedding

# A model on this machine has as many hands as it has; a provider's latency is hidden by more.
_LOCAL_BATCHES = 3
_REMOTE_BATCHES = 8


@dataclass(slots=True)
class _Bell:
    ids: Sequence[MemoryId]
    safe: "asyncio.Future[bool]"
    traceparent: str = ""


class LiveLane:
    """Embeds what bells name, as soon as they ring.

    Args:
        embedding: of the space.
        bulk: takes over what a workspace rings above its share.
        share: memories of one workspace that this lane holds at most.
    """

    def __init__(self, embedding: Embedding, bulk: Bulk, share: int) -> None:
        self._embedding = embedding
        self._bulk = bulk
        self._share = share
        self._queue: deque[_Bell] = deque()
        self._held: Counter[UUID] = Counter()
        self._arrivals = Arrivals()
        self._arrived = asyncio.Event()

    async def embed(self, ids: Sequence[MemoryId]) -> bool:
        """Return when every one of these memories is safe in Postgres.

        Returns:
            True when each has its vector. False when some wait, as failures or in the bulk lane,
            or none of them belongs in the space.
        """
        ids = [one for one in ids if self._embedding.wants(one[0])]
        if not ids:
            return False
        workspaces = Counter(workspace for workspace, _ in ids)
        if any(spills(self._held[w], count, self._share) for w, count in workspaces.items()):
            await self._bulk.take_over(ids)
            return False
        self._held.update(workspaces)
        try:
            return await self._ring(ids)
        finally:
            self._held.subtract(workspaces)
            for workspace in workspaces:
                if not self._held[workspace]:
                    del self._held[workspace]

    async def _ring(self, ids: Sequence[MemoryId]) -> bool:
        bell = _Bell(ids, asyncio.get_running_loop().create_future(), tracing.current())
        self._queue.append(bell)
        self._arrivals = self._arrivals.seen(time.monotonic())
        self._arrived.set()
        return await bell.safe

    async def run(self) -> None:
        """Work until cancelled; batches in flight are finished first."""
        count = _LOCAL_BATCHES if self._embedding.gate.local else _REMOTE_BATCHES
        workers = [asyncio.create_task(self._work()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            await self._linger()
            batch = asyncio.ensure_future(self._answer(self._take()))
            try:
                await asyncio.shield(batch)
            except asyncio.CancelledError:
                await batch
                raise

    async def _linger(self) -> None:
        # Each call to a provider costs a request of its quota; a local model gains nothing.
        if not self._embedding.gate.local:
            linger_s = self._arrivals.linger_s(len(self._queue))
            if linger_s:
                await asyncio.sleep(linger_s)

    def _take(self) -> list[_Bell]:
        bells: list[_Bell] = []
        size = 0
        while self._queue and (not bells or size + len(self._queue[0].ids) <= MAX_BATCH):
            bells.append(self._queue.popleft())
            size += len(bells[-1].ids)
        return bells

    async def _answer(self, bells: list[_Bell]) -> None:
        try:
            ids = [memory_id for bell in bells for memory_id in bell.ids]
            follows = (bell.traceparent for bell in bells)
            with tracing.span("embed batch", follows=follows, memories=len(ids)):
                failed = await self._embedding.embed_ids(ids, "live") if ids else set()
        except Exception as error:  # noqa: BLE001 - each bell's own handler reports it
            for bell in bells:
                if not bell.safe.done():
                    bell.safe.set_exception(error)
        else:
            for bell in bells:
                if not bell.safe.done():
                    bell.safe.set_result(failed.isdisjoint(bell.ids))


def ids_of(workspace: str, items: Iterable[tuple[str, int]]) -> list[MemoryId]:
    """Return the memories an event names."""
    owner = to_id(workspace)
    return [(owner, to_id(memory_id)) for memory_id, _ in items]
