"""Retries: memories whose next attempt is due are claimed in Postgres every second."""

import asyncio

import structlog

from engram.serving.process import Service
from engram.storage import vectors
from engram.storage.connection import UNREACHABLE
from engram_embedder.lane import MAX_BATCH, Lane

log = structlog.get_logger(__name__)

_EVERY_S = 1.0
# After an outage everything is due at once: one claim after another would wait for each answer.
_CLAIMERS = 3


async def retry_due(service: Service, space: int, lane: Lane) -> None:
    """Retry until cancelled."""
    await asyncio.gather(*(_claim_on(service, space, lane) for _ in range(_CLAIMERS)))


async def _claim_on(service: Service, space: int, lane: Lane) -> None:
    while True:
        try:
            claimed = 0 if await lane.failing.look() else await retry_some(service, space, lane)
        except UNREACHABLE as error:
            log.warning("retries wait", error=type(error).__name__)
            claimed = 0
        if claimed < MAX_BATCH:
            await asyncio.sleep(_EVERY_S)


async def retry_some(service: Service, space: int, lane: Lane) -> int:
    """Claim one batch of due memories, try them, and return how many there were."""
    async with service.pool.acquire() as connection, connection.transaction():
        texts = await vectors.due(connection, space, MAX_BATCH)
    await lane.embed_texts(texts)
    return len(texts)
