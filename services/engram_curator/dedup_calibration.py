"""Calibrates the spaces that migrations brought, before anything is merged in them."""

from __future__ import annotations

from typing import Final

import structlog

from engram.domain.dedup_thresholds import calibrated
from engram.domain.restatements import shipped
from engram.embedding.cosines import cosines_of
from engram.embedding.provider import ProviderError
from engram.errors import EngramError
from engram.serving.process import Service
from engram.storage import deduplicating

log = structlog.get_logger(__name__)

# For calls that a rate limit refuses: three thousand tokens, which every quota grants in minutes.
PATIENCE_S: Final = 180.0


async def calibrate_entered(service: Service, patience_s: float = PATIENCE_S) -> None:
    """Give every space that is read and came by a migration its thresholds, if it has none.

    Calls the space's provider outside of any transaction, behind all other work, paid for from the
    shared budget; ``patience_s`` in all is waited where a rate limit refuses. Where that fails the
    space goes on proposing only, and the next run tries again; the gauge
    `engram_dedup_uncalibrated_spaces` counts such spaces.
    """
    async with service.pool.acquire() as connection:
        spaces = await deduplicating.uncalibrated(connection)
    for space in spaces:
        try:
            await _calibrate(service, space, patience_s)
        except (ProviderError, EngramError, ValueError) as error:
            log.warning("space not calibrated", space=space, error=_said(error))


async def _calibrate(service: Service, space: int, patience_s: float) -> None:
    provider = service.spaces.provider(space).behind()
    found = calibrated(await cosines_of(provider, shipped(), patience_s))
    async with service.pool.acquire() as connection:
        if await deduplicating.calibrate(connection, space, found):
            log.info("space calibrated", space=space, merge=found.merge, propose=found.propose)


def _said(error: Exception) -> str:
    if isinstance(error, ProviderError):
        return error.error_class
    return error.code if isinstance(error, EngramError) else "not_calibrated"
