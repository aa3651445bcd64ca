"""Runs sweeps as the table says: any number of curators, each sweep in one of them at a time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from engram import metrics
from engram.serving.process import Service
from engram.storage import sweeps
from engram.storage.connection import UNREACHABLE

log = structlog.get_logger(__name__)

_LOOK_S = 1.0
_LEASE = timedelta(seconds=60)
_EXTEND_S = 20.0


@dataclass(frozen=True, slots=True)
class Duty:
    """A sweep: how often it is due at first, and what it does."""

    every: timedelta
    run: Callable[[Service], Awaitable[None]]


async def run_schedule(service: Service, duties: Mapping[str, Duty]) -> None:
    """Claim and run due sweeps until cancelled.

    Args:
        service: the process.
        duties: by the name in the table.
    """
    async with service.pool.acquire() as connection:
        await sweeps.ensure_sweeps(connection, {name: duty.every for name, duty in duties.items()})
    while True:
        try:
            ran = await run_one(service, duties)
        except UNREACHABLE as error:
            log.warning("sweeps wait", error=type(error).__name__)
            ran = None
        if ran is None:
            await asyncio.sleep(_LOOK_S)


async def run_one(service: Service, duties: Mapping[str, Duty]) -> str | None:
    """Claim the sweep longest overdue and run it; return its name, or None when none is due."""
    holder = uuid4()
    async with service.pool.acquire() as connection:
        name = await sweeps.claim_sweep(connection, holder, _LEASE, list(duties))
    if name is None:
        return None
    started, error = time.perf_counter(), None
    try:
        async with _leased(service, name, holder):
            await duties[name].run(service)
    except Exception as failure:
        error = type(failure).__name__
        log.error("sweep failed", sweep=name, exc_info=failure)
    metrics.SWEEP_SECONDS.labels(name, "failed" if error else "ok").observe(
        time.perf_counter() - started
    )
    async with service.pool.acquire() as connection:
        await sweeps.finish_sweep(connection, name, holder, error)
    return name


@contextlib.asynccontextmanager
async def _leased(service: Service, name: str, holder: UUID) -> AsyncIterator[None]:
    """Keep the lease while inside, so that a slow sweep is not started twice."""

    async def extend() -> None:
        while True:
            await asyncio.sleep(_EXTEND_S)
            async with service.pool.acquire() as connection:
                await sweeps.extend_lease(connection, name, holder, _LEASE)

    extending = asyncio.create_task(extend())
    try:
        yield
    finally:
        extending.cancel()
        await asyncio.gather(extending, return_exceptions=True)
