"""The index duty: counts rows, builds what searches need, drops what they no longer do."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncpg
import structlog

from engram.domain.indexing import (
    EXACT_ROWS,
    RETIRE_GRACE_S,
    Build,
    Range,
    Size,
    longest_tail,
    plan_build,
    unwanted,
    wanted_scopes,
)
from engram.storage import bulk, indexes
from engram.storage.connection import Connection, Pool

log = structlog.get_logger(__name__)

# Counting may take a twentieth of the time.
_COUNT_PAUSE = 20.0
# A build that failed for want of disk or memory will fail again a second later.
_FAILURE_PAUSE_S = 300.0


@dataclass(slots=True)
class Seen:
    """What one process remembers of a space between sweeps; losing it costs one count.

    Attributes:
        changes: of the table, when it was last counted and nothing was left to build.
        count_after_s: monotonic time of the next count.
    """

    changes: dict[int, int] = field(default_factory=dict)
    count_after_s: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class IndexReport:
    """What one sweep did, over all spaces."""

    counted: int = 0
    built: int = 0
    retired: int = 0
    dropped: int = 0
    failed: int = 0
    busy: int = 0


async def sweep_indexes(
    pool: Pool, spaces: Mapping[int, int], seen: Seen, *, grace_s: float = RETIRE_GRACE_S
) -> IndexReport:
    """Bring the indexes of all spaces to what their sizes ask for, one build at a time.

    Args:
        pool: of the worker role, whose login may also take ``engram_vec``.
        spaces: dimensions by space id.
        seen: kept by the caller between sweeps.
        grace_s: how long a retired index stays for searches that read the list before.

    Raises:
        UnavailableError: Postgres cannot be reached.
    """
    report = IndexReport()
    for space, dimensions in spaces.items():
        async with indexes.sole_builder(pool, space) as connection:
            if connection is None:
                report.busy += 1
                continue
            await _clean(connection, space, grace_s, report)
            if await _is_due(connection, space, seen):
                await _renew(connection, space, dimensions, seen, report)
    if report.built or report.dropped or report.failed:
        log.info(
            "indexes swept",
            built=report.built,
            retired=report.retired,
            dropped=report.dropped,
            failed=report.failed,
        )
    return report


async def _clean(connection: Connection, space: int, grace_s: float, report: IndexReport) -> None:
    for stored in await indexes.all_indexes(connection, space):
        over = stored.state == "retiring" and stored.age_s >= grace_s
        # Nobody else builds while we hold the lock: one "building" is what a crash left behind.
        broken = stored.state == "building" or (stored.state == "ready" and not stored.valid)
        if over or broken:
            dropped = await indexes.drop(connection, space, stored.range.name)
            report.dropped += dropped
            report.failed += not dropped


async def _is_due(connection: Connection, space: int, seen: Seen) -> bool:
    changes = await indexes.changes(connection, space)
    if changes is None or changes == seen.changes.get(space):
        return False
    return time.monotonic() >= seen.count_after_s.get(space, 0.0)


async def _renew(
    connection: Connection, space: int, dimensions: int, seen: Seen, report: IndexReport
) -> None:
    started = time.monotonic()
    changes = await indexes.changes(connection, space)
    counted = await indexes.count_sizes(connection, space, EXACT_ROWS)
    await indexes.save_sizes(connection, (c.size for c in counted if c.drifted))
    now = time.monotonic()
    seen.count_after_s[space] = now + _COUNT_PAUSE * (now - started)
    report.counted += len(counted)
    ranges = [s.range for s in await indexes.all_indexes(connection, space) if s.state == "ready"]
    sizes = (c.size for c in counted if c.size.rows > EXACT_ROWS)
    wanted = wanted_scopes(sizes, {item.scope for item in ranges})
    gone = unwanted(ranges, {size.scope for size in wanted})
    await indexes.retire(connection, space, [item.name for item in gone])
    report.retired += len(gone)
    built, failed = report.built, report.failed
    loading = (await bulk.waiting(connection, space))[0] > 0
    for size in wanted:
        own = [item for item in ranges if item.scope == size.scope]
        build = await _next_build(connection, space, size, own, loading=loading)
        if build is not None:
            await _build(connection, space, dimensions, build, report)
    if report.failed > failed:
        seen.count_after_s[space] = time.monotonic() + _FAILURE_PAUSE_S
    # After a build the sizes are old, and after a load there is more to build: the next sweep looks
    # again, even if nothing is written.
    elif changes is not None and report.built == built and not loading:
        seen.changes[space] = changes


async def _next_build(
    connection: Connection, space: int, size: Size, ranges: list[Range], *, loading: bool
) -> Build | None:
    covered = max((item.high for item in ranges), default=0)
    at_most = longest_tail(loading=loading)
    tail = await indexes.tail_rows(connection, space, size.scope, after=covered, at_most=at_most)
    return plan_build(size, ranges, tail, loading=loading)


async def _build(
    connection: Connection, space: int, dimensions: int, build: Build, report: IndexReport
) -> None:
    try:
        name = await indexes.build(connection, space, build, dimensions)
    except (asyncpg.PostgresError, TimeoutError) as error:
        report.failed += 1
        log.warning("index build failed", space=space, error=type(error).__name__)
        return
    report.built += 1
    report.retired += len(build.replaces)
    log.info("index built", space=space, index=name, rows=build.rows, replaced=len(build.replaces))
