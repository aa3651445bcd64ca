"""One space's lane: coalesces what bells name, embeds it, writes it under guard."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import structlog

from engram import metrics
from engram.domain.batching import estimate_tokens, pack
from engram.domain.memory import content_hash
from engram.serving.process import Service
from engram.serving.spending import Spending
from engram.storage import vectors
from engram.storage.connection import CONTENDED
from engram.storage.vectors import MemoryId, Text
from engram_embedder.failing import Failing
from engram_embedder.gate import Gate
from engram_embedder.provider_call import Good, embed

log = structlog.get_logger(__name__)

# Large enough that one statement's cost is spread, small enough that the first vectors of a big
# import are searchable soon.
MAX_BATCH = 512
_WORKERS = 3
_TRIES = 5


@dataclass(slots=True)
class _Bell:
    ids: Sequence[MemoryId]
    safe: "asyncio.Future[None]"


class Lane:
    """Embeds one space's memories.

    Args:
        service: whose pool and relay are used.
        space: id of the space.
        provider: of the space.
        gate: of the provider and model.
    """

    def __init__(self, service: Service, space: int, provider: Spending, gate: Gate) -> None:
        self._service = service
        self._space = space
        self._provider = provider
        self._label = service.spaces.key(space)
        self._queue: deque[_Bell] = deque()
        self._arrived = asyncio.Event()
        self._gate = gate
        self.failing = Failing(service, space, provider, gate)

    async def embed(self, ids: Sequence[MemoryId]) -> None:
        """Return when every one of these memories has its vector or its failure in Postgres."""
        bell = _Bell(ids, asyncio.get_running_loop().create_future())
        self._queue.append(bell)
        self._arrived.set()
        await bell.safe

    async def run(self) -> None:
        """Work until cancelled; batches in flight are finished first."""
        workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]
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
            batch = asyncio.ensure_future(self._answer(self._take()))
            try:
                await asyncio.shield(batch)
            except asyncio.CancelledError:
                await batch
                raise

    def _take(self) -> list[_Bell]:
        bells: list[_Bell] = []
        size = 0
        while self._queue and (not bells or size + len(self._queue[0].ids) <= MAX_BATCH):
            bells.append(self._queue.popleft())
            size += len(bells[-1].ids)
        return bells

    async def _answer(self, bells: list[_Bell]) -> None:
        try:
            async with self._service.pool.acquire() as connection:
                ids = [memory_id for bell in bells for memory_id in bell.ids]
                texts = await vectors.wanting(connection, ids, self._space)
            await self.embed_texts(texts)
        except Exception as error:  # noqa: BLE001 - each bell's own handler reports it
            for bell in bells:
                if not bell.safe.done():
                    bell.safe.set_exception(error)
        else:
            for bell in bells:
                if not bell.safe.done():
                    bell.safe.set_result(None)

    async def embed_texts(self, texts: Sequence[Text]) -> None:
        """Embed texts and write what came of each: a vector or a failure."""
        if not texts:
            return
        if self.failing.paused:
            await self.failing.postpone(texts)
            return
        rest = await self._reuse(texts)
        tokens = [estimate_tokens(text.content, self._provider.ratio) for text in rest]
        limits = self._provider.limits
        packs = pack(rest, tokens, min(limits.max_inputs, MAX_BATCH), limits.max_tokens)
        done = await asyncio.gather(
            *(self._embed_pack([rest[index] for index in indexes]) for indexes in packs),
            return_exceptions=True,
        )
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _embed_pack(self, texts: list[Text]) -> None:
        good, bad = await embed(self._gate, self._provider, texts)
        if good is not None:
            await self._store(good)
        for failed in bad:
            halves = await self.failing.handle(failed)
            for half in halves:
                await self._embed_pack(half)

    async def _reuse(self, texts: Sequence[Text]) -> list[Text]:
        async with self._service.pool.acquire() as connection:
            twins = await vectors.twins(connection, texts, self._space)
        if not twins:
            return list(texts)
        keys = [(text.workspace, content_hash(text.content)) for text in texts]
        known = [(t, twins[key]) for t, key in zip(texts, keys, strict=True) if key in twins]
        await self._store(Good([t for t, _ in known], np.stack([v for _, v in known])))
        metrics.REUSED.labels(self._label).inc(len(known))
        return [t for t, key in zip(texts, keys, strict=True) if key not in twins]

    async def _store(self, good: Good) -> None:
        taken = await self._written(good)
        self._service.relay.wake()
        metrics.EMBEDDED.labels(self._label).inc(taken)
        metrics.DROPPED.labels(self._label).inc(len(good.texts) - taken)

    async def _written(self, good: Good) -> int:
        texts, rows = _each_once(good)
        for attempt in range(_TRIES):
            try:
                async with (
                    self._service.pool.acquire() as connection,
                    connection.transaction(),
                ):
                    stored = await vectors.store_vectors(
                        connection, texts, rows, self._space, datetime.now(UTC)
                    )
                    return len(stored)
            except CONTENDED:
                if attempt == _TRIES - 1:
                    raise
        return 0


def _each_once(
    good: Good,
) -> tuple[list[Text], "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]:
    """Keep each memory once: the same one twice in an upsert fails the whole statement."""
    first: dict[MemoryId, int] = {}
    for row, text in enumerate(good.texts):
        first.setdefault((text.workspace, text.id), row)
    rows = list(first.values())
    if len(rows) == len(good.texts):
        return good.texts, good.vectors
    return [good.texts[row] for row in rows], good.vectors[rows]


def ids_of(workspace: str, items: Iterable[tuple[str, int]]) -> list[MemoryId]:
    """Return the memories an event names."""
    owner = UUID(workspace)
    return [(owner, UUID(memory_id)) for memory_id, _ in items]
