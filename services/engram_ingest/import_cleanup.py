"""Erases what ended import jobs leave: bodies, digests, rows nobody saw, vectors of what left."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

import structlog

from engram.storage import import_cleaning
from engram.storage.connection import Pool

log = structlog.get_logger(__name__)

# A body that has not grown for so long has lost its sender; each piece has 30 s to come.
_STALE = timedelta(minutes=5)
_KEEP = timedelta(days=30)
_JOBS = 20
_ROWS = 2_000
_CHUNKS = 16


async def sweep(pool: Pool, only: UUID | None = None) -> bool:
    """Clean up what is to be cleaned up; any number of processes may at once.

    Args:
        pool: of the worker role.
        only: this job, instead of all.
    """
    async with pool.acquire() as connection:
        found = await import_cleaning.uncleaned(connection, _STALE, _JOBS)
    for workspace, job, state in found:
        if only in (None, job):
            await _clean(pool, workspace, job, state)
    async with pool.acquire() as connection, connection.transaction():
        await import_cleaning.forget_old(connection, _KEEP, _JOBS)
    return bool(found)


async def _clean(pool: Pool, workspace: UUID, job: UUID, state: str) -> None:
    await _drop(pool, "drop_chunks", workspace, job, _CHUNKS)
    await _drop(pool, "drop_marks", workspace, job, _ROWS)
    if state != "done":
        await _drop(pool, "drop_staged", workspace, job, _ROWS)
    after: UUID | None = UUID(int=0)
    while after is not None:
        async with pool.acquire() as connection, connection.transaction():
            after = await import_cleaning.drop_silent_vectors(
                connection, workspace, job, after, _ROWS
            )
    async with pool.acquire() as connection, connection.transaction():
        if await import_cleaning.cleaned(connection, workspace, job):
            log.info("upload forgotten", job=str(job))


async def _drop(
    pool: Pool,
    what: Literal["drop_chunks", "drop_marks", "drop_staged"],
    workspace: UUID,
    job: UUID,
    limit: int,
) -> None:
    while True:
        async with pool.acquire() as connection:
            if await import_cleaning.drop(connection, what, workspace, job, limit) < limit:
                return
