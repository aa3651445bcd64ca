"""The expiry sweep: idempotency keys are kept a day, then deleted in small batches."""

from datetime import timedelta

from engram.serving.process import Service
from engram.storage.sweeps import expire_keys

KEEP = timedelta(hours=24)
_BATCH = 5_000


async def expire(service: Service) -> None:
    """Delete what has expired."""
    while True:
        async with service.pool.acquire() as connection:
            if await expire_keys(connection, KEEP, _BATCH) < _BATCH:
                return
