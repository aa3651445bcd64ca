"""From texts to vectors in Postgres: reuse, pack, ask, write under guard, or write the failure."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import numpy as np

from engram import metrics, tracing
from engram.domain.batching import estimate_tokens, pack
from engram.domain.lanes import Lane
from engram.domain.memory import content_hash
from engram.domain.vectors import Matrix
from engram.serving.process import Service
from engram.serving.spending import Spending
from engram.storage import vectors
from engram.storage.connection import CONTENDED, Connection
from engram.storage.vectors import MemoryId, Text
from engram_embedder.failing import Failing
from engram_embedder.gate import Gate
from engram_embedder.provider_call import Good, embed

T = TypeVar("T")

# Large enough that one statement's cost is spread, small enough that the first vectors of a big
# import are searchable soon.
MAX_BATCH = 512
_TRIES = 5


class Embedding:
    """Embeds one space's texts, for every lane.

    Args:
        service: whose pool and relay are used.
        space: id of the space.
        provider: of the space.
        gate: of the provider and model.

    Attributes:
        space: id of the space.
        label: its public name.
        gate: of the provider and model.
        failing: its failures.
    """

    def __init__(self, service: Service, space: int, provider: Spending, gate: Gate) -> None:
        self._service = service
        self.space = space
        self._providers: dict[Lane, Spending] = {"live": provider, "bulk": provider.behind()}
        self.label = service.spaces.key(space)
        self.gate = gate
        self._model = service.spaces.model_number(space)
        self.failing = Failing(service, space, provider, gate)

    def wants(self, workspace: UUID) -> bool:
        """Whether a workspace's memories belong in this space."""
        return self._service.spaces.holds(self.space, workspace)

    async def embed_ids(self, ids: Sequence[MemoryId], lane: Lane) -> set[MemoryId]:
        """Return when each of these memories has its vector or its failure in Postgres.

        Returns:
            Those that have a failure.
        """
        async with self._service.pool.acquire() as connection:
            texts = await vectors.wanting(connection, ids, self.space)
            # What failed before and is not due yet is not among the texts.
            passed_over = len(texts) < len(set(ids))
            failed = await vectors.failed(connection, ids, self.space) if passed_over else set()
        return failed | await self.embed_texts(texts, lane)

    async def embed_texts(self, texts: Sequence[Text], lane: Lane) -> set[MemoryId]:
        """Embed texts and write what came of each: a vector or a failure.

        Returns:
            Those that have a failure.
        """
        before = self.failing.recorded
        await self._embed_texts(texts, lane)
        if self.failing.recorded == before:
            return set()
        # Somebody's failed meanwhile, which is seldom: whose, Postgres knows.
        async with self._service.pool.acquire() as connection:
            ids = [(text.workspace, text.id) for text in texts]
            return await vectors.failed(connection, ids, self.space)

    async def _embed_texts(self, texts: Sequence[Text], lane: Lane) -> None:
        if not texts:
            return
        if self.failing.paused:
            await self.failing.postpone(texts)
            return
        rest = await self._reuse(texts)
        provider = self._providers[lane]
        tokens = [estimate_tokens(text.content, provider.ratio) for text in rest]
        limits = provider.limits
        packs = pack(rest, tokens, min(limits.max_inputs, MAX_BATCH), limits.max_tokens)
        done = await asyncio.gather(
            *(self._embed_pack([rest[index] for index in indexes], lane) for indexes in packs),
            return_exceptions=True,
        )
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _embed_pack(self, texts: list[Text], lane: Lane) -> None:
        good, bad = await embed(self.gate, self._providers[lane], texts, lane)
        if good is not None:
            await self._store(good, [self._model] * len(good.texts))
        for failed in bad:
            halves = await self.failing.handle(failed)
            for half in halves:
                await self._embed_pack(half, lane)

    async def _reuse(self, texts: Sequence[Text]) -> list[Text]:
        repeats = [text for text in texts if text.may_repeat]
        if not repeats:
            return list(texts)
        async with self._service.pool.acquire() as connection:
            twins = await vectors.twins(connection, repeats, self.space)
        if not twins:
            return list(texts)
        keys = [(text.workspace, content_hash(text.content)) for text in texts]
        known = [(t, twins[key]) for t, key in zip(texts, keys, strict=True) if key in twins]
        rows = np.stack([vector for _, (vector, _) in known], dtype=np.float32)
        await self._store(Good([t for t, _ in known], rows), [model for _, (_, model) in known])
        metrics.REUSED.labels(self.label).inc(len(known))
        return [t for t, key in zip(texts, keys, strict=True) if key not in twins]

    async def _store(self, good: Good, models: list[int]) -> None:
        with tracing.span("store vectors", space=self.label, vectors=len(good.texts)):
            taken = await self._written(good, models)
        self._service.relay.wake()
        metrics.EMBEDDED.labels(self.label).inc(taken)
        metrics.DROPPED.labels(self.label).inc(len(good.texts) - taken)

    async def _written(self, good: Good, models: list[int]) -> int:
        texts, rows, made_by = _each_once(good, models)

        async def store(connection: Connection) -> set[MemoryId]:
            now = datetime.now(UTC)
            return await vectors.store_vectors(connection, texts, rows, self.space, now, made_by)

        # Nothing at all is stored by a statement that a fence has overtaken: it is begun again.
        taken = await self._won(store) or await self._won(store)
        left = [text for text in texts if (text.workspace, text.id) not in taken]
        if left:
            await self._won(lambda connection: vectors.defer(connection, left, self.space))
        return len(taken)

    async def _won(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a transaction, again when it lost a race."""
        for _ in range(_TRIES - 1):
            with contextlib.suppress(*CONTENDED):
                return await self._once(act)
        return await self._once(act)

    async def _once(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._service.pool.acquire() as connection, connection.transaction():
            return await act(connection)


def _each_once(good: Good, models: list[int]) -> tuple[list[Text], Matrix, list[int]]:
    """Keep each memory once: the same one twice in an upsert fails the whole statement."""
    first: dict[MemoryId, int] = {}
    for row, text in enumerate(good.texts):
        first.setdefault((text.workspace, text.id), row)
    rows = list(first.values())
    if len(rows) == len(good.texts):
        return good.texts, good.vectors, models
    return [good.texts[row] for row in rows], good.vectors[rows], [models[row] for row in rows]
