"""From texts to vectors in Postgres: reuse, pack, ask, write under guard, or write the failure."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from engram import metrics
from engram.domain.batching import estimate_tokens, pack
from engram.domain.lanes import Lane
from engram.domain.memory import content_hash
from engram.domain.vectors import Matrix
from engram.serving.process import Service
from engram.serving.spending import Spending
from engram.storage import vectors
from engram.storage.connection import CONTENDED
from engram.storage.vectors import MemoryId, Text
from engram_embedder.failing import Failing
from engram_embedder.gate import Gate
from engram_embedder.provider_call import Good, embed

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
        self.failing = Failing(service, space, provider, gate)

    async def embed_ids(self, ids: Sequence[MemoryId], lane: Lane) -> None:
        """Return when each of these memories has its vector or its failure in Postgres."""
        async with self._service.pool.acquire() as connection:
            texts = await vectors.wanting(connection, ids, self.space)
        await self.embed_texts(texts, lane)

    async def embed_texts(self, texts: Sequence[Text], lane: Lane) -> None:
        """Embed texts and write what came of each: a vector or a failure."""
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
            await self._store(good)
        for failed in bad:
            halves = await self.failing.handle(failed)
            for half in halves:
                await self._embed_pack(half, lane)

    async def _reuse(self, texts: Sequence[Text]) -> list[Text]:
        async with self._service.pool.acquire() as connection:
            twins = await vectors.twins(connection, texts, self.space)
        if not twins:
            return list(texts)
        keys = [(text.workspace, content_hash(text.content)) for text in texts]
        known = [(t, twins[key]) for t, key in zip(texts, keys, strict=True) if key in twins]
        await self._store(Good([t for t, _ in known], np.stack([v for _, v in known])))
        metrics.REUSED.labels(self.label).inc(len(known))
        return [t for t, key in zip(texts, keys, strict=True) if key not in twins]

    async def _store(self, good: Good) -> None:
        taken = await self._written(good)
        self._service.relay.wake()
        metrics.EMBEDDED.labels(self.label).inc(taken)
        metrics.DROPPED.labels(self.label).inc(len(good.texts) - taken)

    async def _written(self, good: Good) -> int:
        texts, rows = _each_once(good)
        for attempt in range(_TRIES):
            try:
                async with (
                    self._service.pool.acquire() as connection,
                    connection.transaction(),
                ):
                    stored = await vectors.store_vectors(
                        connection, texts, rows, self.space, datetime.now(UTC)
                    )
                    return len(stored)
            except CONTENDED:
                if attempt == _TRIES - 1:
                    raise
        return 0


def _each_once(good: Good) -> tuple[list[Text], Matrix]:
    """Keep each memory once: the same one twice in an upsert fails the whole statement."""
    first: dict[MemoryId, int] = {}
    for row, text in enumerate(good.texts):
        first.setdefault((text.workspace, text.id), row)
    rows = list(first.values())
    if len(rows) == len(good.texts):
        return good.texts, good.vectors
    return [good.texts[row] for row in rows], good.vectors[rows]
