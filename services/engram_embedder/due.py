"""Retries: memories whose next attempt is due are claimed in Postgres every second."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog

from engram import metrics
from engram.serving.process import Service
from engram.storage import vectors
from engram.storage.connection import UNREACHABLE
from engram.storage.vectors import Text
from engram_embedder.embedding import MAX_BATCH, Embedding

log = structlog.get_logger(__name__)

_EVERY_S = 1.0
# After an outage everything is due at once: one claim after another would wait for each answer.
_CLAIMERS = 3


class Retries:
    """The retries of one space, in turn over workspaces.

    Args:
        service: whose pool is used.
        embedding: of the space.
    """

    def __init__(self, service: Service, embedding: Embedding) -> None:
        self._pool = service.pool
        self._embedding = embedding
        self._last = UUID(int=0)

    async def run(self) -> None:
        """Retry until cancelled."""
        await asyncio.gather(*(self._claim_on() for _ in range(_CLAIMERS)))

    async def _claim_on(self) -> None:
        while True:
            try:
                claimed = 0 if await self._embedding.failing.look() else await self.some()
            except UNREACHABLE as error:
                log.warning("retries wait", error=type(error).__name__)
                claimed = 0
            if claimed < MAX_BATCH:
                await asyncio.sleep(_EVERY_S)

    async def some(self) -> int:
        """Claim one batch of due memories, try them, and return how many there were."""
        async with self._pool.acquire() as connection, connection.transaction():
            texts, self._last, claimed = await vectors.due(
                connection, self._embedding.space, self._last, MAX_BATCH
            )
        failed = await self._embedding.embed_texts(texts, "bulk")
        self._observe([text for text in texts if (text.workspace, text.id) not in failed])
        return claimed

    def _observe(self, embedded: Sequence[Text]) -> None:
        """Count how late they are: from the first failure, which comes a moment after the event."""
        freshness = metrics.FRESHNESS.labels(self._embedding.label, "retry")
        now = datetime.now(UTC)
        for text in embedded:
            if text.first_at is not None:
                freshness.observe(max(0.0, (now - text.first_at).total_seconds()))
