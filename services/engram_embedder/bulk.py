"""One space's bulk lane: a queue in Postgres, worked off in turn over workspaces."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from engram import metrics
from engram.serving.process import Service
from engram.storage import bulk
from engram.storage.bulk import Claim
from engram.storage.connection import UNREACHABLE
from engram.storage.vectors import MemoryId
from engram_embedder.embedding import MAX_BATCH, Embedding

log = structlog.get_logger(__name__)

# Longer than any provider call that is not extended; what a dead worker held comes back after it.
_LEASE = timedelta(seconds=60)
_EXTEND_S = 20.0
_LOOK_S = 1.0
_COME_AGAIN = timedelta(seconds=2)
_LOCAL_BATCHES = 2
_REMOTE_BATCHES = 8


class Bulk:
    """Embeds what waits in the queue, and takes over what spills from the live lane.

    Args:
        service: whose pool is used.
        embedding: of the space.
    """

    def __init__(self, service: Service, embedding: Embedding) -> None:
        self._pool = service.pool
        self._embedding = embedding
        self._last = UUID(int=0)
        self._held: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._spilled: list[tuple[Sequence[MemoryId], asyncio.Future[None]]] = []
        self._adding = asyncio.Lock()

    async def take_over(self, ids: Sequence[MemoryId]) -> None:
        """Return when these memories are in the queue; what comes meanwhile joins one statement."""
        queued: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spilled.append((ids, queued))
        async with self._adding:
            if not queued.done():
                await self._add()
        await queued

    async def _add(self) -> None:
        taken, self._spilled = self._spilled, []
        batches = _batches([memory_id for ids, _ in taken for memory_id in ids])
        try:
            async with self._pool.acquire() as connection:
                await bulk.add(connection, self._embedding.space, batches)
        except Exception as error:  # noqa: BLE001 - each bell's own handler reports it
            for _, queued in taken:
                queued.set_exception(error)
            return
        metrics.SPILLED.labels(self._embedding.label).inc(sum(len(ids) for ids, _ in taken))
        for _, queued in taken:
            queued.set_result(None)
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; batches in flight are finished first."""
        extending = asyncio.create_task(self._extend())
        try:
            while True:
                self._woken.clear()
                if not await self._start_one():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await self._woken.wait()
        finally:
            await asyncio.gather(*self._running, return_exceptions=True)
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)

    async def _start_one(self) -> bool:
        """Start a batch, if there is one and room for it."""
        gate = self._embedding.gate
        room = _LOCAL_BATCHES if gate.local else min(_REMOTE_BATCHES, gate.calls)
        if len(self._running) >= room:
            return False
        try:
            # A provider that is down is asked for nothing: the queue is where work waits.
            claimed = None if await self._embedding.failing.look() else await self._claim()
        except UNREACHABLE as error:
            log.warning("bulk waits", error=type(error).__name__)
            return False
        if claimed is None:
            return False
        task = asyncio.create_task(self._answer(claimed))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return True

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._woken.set()

    async def _claim(self) -> Claim | None:
        async with self._pool.acquire() as connection:
            claimed = await bulk.claim(
                connection, self._embedding.space, self._last, MAX_BATCH, _LEASE
            )
        if claimed is not None:
            self._last = claimed.last
            self._held.update(claimed.batches)
        return claimed

    async def _answer(self, claimed: Claim) -> None:
        try:
            failed = await self._embedding.embed_ids(claimed.memories, "bulk")
            async with self._pool.acquire() as connection:
                await bulk.finish(connection, claimed.batches)
            waited_s = (datetime.now(UTC) - claimed.rung_at).total_seconds()
            if failed:
                return
            metrics.FRESHNESS.labels(self._embedding.label, "bulk").observe(max(0.0, waited_s))
        except Exception as error:  # noqa: BLE001 - the queue still has them: they come again
            log.warning("bulk comes again", error=type(error).__name__)
            with contextlib.suppress(*UNREACHABLE):
                async with self._pool.acquire() as connection:
                    await bulk.extend(connection, claimed.batches, _COME_AGAIN)
        finally:
            self._held.difference_update(claimed.batches)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(_EXTEND_S)
            with contextlib.suppress(*UNREACHABLE):
                async with self._pool.acquire() as connection:
                    await bulk.extend(connection, list(self._held), _LEASE)


def _batches(ids: Sequence[MemoryId]) -> list[tuple[UUID, list[UUID]]]:
    """Sort memories by workspace, into batches that one claim can take."""
    owned: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for workspace, memory in ids:
        owned[workspace].append(memory)
    return [
        (workspace, memories[start : start + MAX_BATCH])
        for workspace, memories in owned.items()
        for start in range(0, len(memories), MAX_BATCH)
    ]
