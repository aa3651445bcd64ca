"""The backfill: queues what the target lacks for its bulk lane, as fast as its share allows."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog

from engram import metrics
from engram.domain.budget import quota_of
from engram.domain.migration_plan import remaining_s, rest_s
from engram.domain.spaces import parse_embedding
from engram.serving.process import Service
from engram.storage import backfilling, bulk, migrating
from engram.storage.backfilling import END, Standing
from engram.storage.connection import Connection
from engram.storage.migrating import Migration

log = structlog.get_logger(__name__)

# One row of the queue: what an embedder takes for one turn.
BATCH: Final = 512
# Memories queued at once: some seconds of work for the fastest limits there are, so that the lane
# never waits for the next turn, and no more than a pause should have to see through.
WINDOW: Final = 16_384
_NAMESPACES: Final = 64
_PAGE: Final = 4_096
# Walked in one transaction: while it lasts, a pause or an abort waits.
_PAGES: Final = 16
# Counting reads both tables: it may take a twentieth of the time, and is not done more often.
_COUNT_EVERY_S: Final = 2.0
_COUNT_PAUSE: Final = 20.0
_RATE_OVER_S: Final = 60.0


@dataclass(slots=True)
class Pace:
    """What one driver remembers of a backfill between turns; losing it costs one count.

    Attributes:
        began_s: monotonic time when the window under way was queued, None when none is.
        queued: memories of that window.
        rest_until_s: nothing is queued before.
        count_after_s: of the next count.
        seen: (monotonic time, missing) of the last counts, for the rate.
    """

    began_s: float | None = None
    queued: int = 0
    rest_until_s: float = 0.0
    count_after_s: float = 0.0
    seen: deque[tuple[float, int]] = field(default_factory=deque)


class Backfill:
    """Fills one target.

    Args:
        service: whose pool is used.
        migration_id: which one.
    """

    def __init__(self, service: Service, migration_id: UUID) -> None:
        self._service = service
        self.migration_id = migration_id
        self._pace = Pace()

    async def step(self, migration: Migration) -> bool:
        """Queue what the window has room for, and count when it is time; True if it did anything.

        Safe at any moment and by any number of processes: what is queued and up to where a
        namespace was walked are one transaction.
        """
        done = 0 if migration.paused else await self._fill(migration)
        now_s = time.monotonic()
        if now_s >= self._pace.count_after_s:
            await self.count(migration)
            took_s = time.monotonic() - now_s
            self._pace.count_after_s = time.monotonic() + max(_COUNT_EVERY_S, _COUNT_PAUSE * took_s)
        return done > 0

    async def _fill(self, migration: Migration) -> int:
        share = float(migration.options.get("share", 1.0))
        async with self._service.pool.acquire() as connection:
            waiting, _ = await bulk.waiting(connection, migration.target)
            room = self._room(migration, share, waiting)
            if room <= 0:
                return 0
            async with connection.transaction():
                queued = await self._queue(connection, migration, room)
        if queued:
            self._pace.began_s = self._pace.began_s or time.monotonic()
            self._pace.queued += queued
            metrics.BACKFILL_QUEUED.labels(migration.target_key).inc(queued)
        return queued

    def _room(self, migration: Migration, share: float, waiting: int) -> int:
        """Return how many memories may be queued now."""
        now_s, pace = time.monotonic(), self._pace
        if share >= 1:
            return WINDOW - waiting
        if pace.began_s is not None:
            if waiting:
                return 0
            tokens = pace.queued * float(migration.plan.get("tokens_per_text", 0.0))
            rest = rest_s(share, now_s - pace.began_s, tokens, self._tokens_per_s(migration))
            pace.rest_until_s, pace.began_s, pace.queued = now_s + rest, None, 0
        return WINDOW // 4 if now_s >= pace.rest_until_s else 0

    def _tokens_per_s(self, migration: Migration) -> float | None:
        chosen, spec = self._service.settings, parse_embedding(migration.target_key)
        limits = {"rpm": chosen.provider_rpm, "tpm": chosen.provider_tpm}
        quota = quota_of(spec.provider, spec.model, tier=chosen.provider_tier, **limits)
        return quota.tokens_per_s if quota else None

    async def _queue(self, connection: Connection, migration: Migration, room: int) -> int:
        """Walk namespaces until the window is full; return how many memories were queued."""
        if not await backfilling.may_queue(connection, migration.id):
            return 0
        queued = 0
        for workspace, namespace, hint in await backfilling.next_namespaces(
            connection, migration, _NAMESPACES
        ):
            queued += await self._walk(
                connection, migration, workspace, namespace, hint, room - queued
            )
            if queued >= room:
                break
        return queued

    async def _walk(
        self,
        connection: Connection,
        migration: Migration,
        workspace: UUID,
        namespace: str,
        hint: UUID,
        room: int,
    ) -> int:
        """Walk one namespace as far as there is room; leave the hint where it ended."""
        queued = 0
        for _ in range(_PAGES):
            limit = min(_PAGE, room - queued)
            page = await backfilling.walk(connection, migration, workspace, namespace, hint, limit)
            hint = page.last if page.last is not None and page.scanned == limit else END
            batches = [
                (workspace, page.missing[start : start + BATCH])
                for start in range(0, len(page.missing), BATCH)
            ]
            if batches:
                await bulk.add(connection, migration.target, batches)
            queued += len(page.missing)
            if hint == END or queued >= room:
                break
        await backfilling.leave_hint(connection, migration.id, workspace, namespace, hint)
        return queued

    async def count(self, migration: Migration) -> None:
        """Count every namespace, and let what is done be complete and what was lost be walked."""
        async with self._service.pool.acquire() as connection:
            standings = await backfilling.count(connection, migration)
            done = [(s.workspace, s.namespace) for s in standings if s.open == 0]
            lost = [(s.workspace, s.namespace) for s in standings if s.lost]
            async with connection.transaction():
                await backfilling.complete(connection, migration.id, done)
                await backfilling.reopen(connection, migration.id, lost)
                states = await migrating.states(connection, migration.id)
                progress = self._progress(migration, standings, dict(states))
                await backfilling.save_progress(connection, migration.id, progress)

    def _progress(
        self, migration: Migration, standings: list[Standing], states: dict[Any, int]
    ) -> dict[str, Any]:
        missing = sum(s.missing for s in standings)
        dead = sum(s.dead for s in standings)
        rate, eta_s = self._rate(missing - dead)
        rows, plan = sum(s.rows for s in standings), migration.plan
        open_states = states.get("waiting", 0) + states.get("backfilling", 0)
        loaded = bool(migration.progress.get("loaded")) or (bool(states) and not open_states)
        return {
            **migration.progress,
            "rows": rows,
            "missing": missing,
            "dead": dead,
            "namespaces": len(standings),
            "states": states,
            "rate_per_s": rate,
            "eta_s": None if migration.paused else eta_s,
            "tokens": round((rows - missing) * _ratio(plan, "tokens")),
            "cost_usd": _cost(plan, rows - missing),
            "loaded": loaded,
        }

    def _rate(self, missing: int) -> tuple[float | None, float | None]:
        """Return memories a second over the last minute, and seconds to the end at that rate."""
        now_s, seen = time.monotonic(), self._pace.seen
        seen.append((now_s, missing))
        while now_s - seen[0][0] > _RATE_OVER_S and len(seen) > 2:
            seen.popleft()
        first, elapsed_s = seen[0][1], now_s - seen[0][0]
        if missing <= 0:
            return 0.0, 0.0
        if elapsed_s <= 0:
            return None, None
        eta_s = remaining_s(missing, first - missing, elapsed_s)
        rate = max(0.0, (first - missing) / elapsed_s)
        return round(rate, 2), None if eta_s is None else round(eta_s, 1)


def _ratio(plan: dict[str, Any], name: str) -> float:
    """Return how much of something the plan gives to one row: repeats are embedded once."""
    rows = plan.get("rows") or 0
    return float(plan.get(name) or 0) / rows if rows else 0.0


def _cost(plan: dict[str, Any], rows: int) -> float | None:
    if plan.get("cost_usd") is None:
        return None
    return round(rows * _ratio(plan, "cost_usd"), 6)
