"""Reading early: old vectors, mapped into the new space, answer until their backfill is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Final
from uuid import UUID

import structlog

from engram.domain.adapter import MAX_PAIRS, MIN_PAIRS, Adapter, fit
from engram.serving.process import Service
from engram.storage import adapting, backfilling, bulk, cutting
from engram.storage.adapting import Between, Place
from engram.storage.connection import Connection
from engram.storage.cutting import Flip, HeldError, Way
from engram.storage.migrating import Migration
from engram_migrator.backfill import BATCH
from engram_migrator.fenced import Move

log = structlog.get_logger(__name__)

_PAGE: Final = 1_000
# Namespaces that are mapped and turned in one step; a turn of the driver waits for it.
_PLACES: Final = 50
# Above every seq: the flip need not look for what is missing, since that has just been mapped.
_LAST_SEQ: Final = (1 << 63) - 1


class Adapting:
    """The adapter of one migration, while its backfill goes on.

    Args:
        service: whose pool is used.
        migration_id: which one.
    """

    def __init__(self, service: Service, migration_id: UUID) -> None:
        self._service = service
        self.migration_id = migration_id
        self._adapter: Adapter | None = None
        self._sampled = False

    async def step(self, migration: Migration) -> bool:
        """Do the next thing there is to do; True when there may be more at once.

        Pairs first, then the fit, then namespace by namespace: what the new space lacks is mapped,
        and the namespace reads there. Safe at any moment, again after any crash: what is done is
        in the database.
        """
        # Cutting over and going back move the same pointers: they go first.
        if migration.paused or migration.wish or not migration.options.get("adapter"):
            return False
        between = Between(migration.source, migration.target)
        async with self._service.pool.acquire() as connection:
            found = await self._found(connection)
            if found is None:
                return await self._prepare(connection, migration, between)
            await self._tell(connection, migration)
            adapter, is_worth_reading = found
            if not is_worth_reading:
                return False
            places = await adapting.open_places(connection, migration.id, between, _PLACES)
            for place in places:
                await _fill(connection, adapter, between, place)
        return bool(places) and await self._read_early(adapter, between, places)

    async def _tell(self, connection: Connection, migration: Migration) -> None:
        """Let the status say how good the map is, once."""
        if "adapter" in migration.progress:
            return
        judged = await adapting.judged(connection, self.migration_id) or {}
        # In place too: the count of this turn saves the same progress.
        migration.progress["adapter"] = judged
        await backfilling.save_progress(connection, self.migration_id, migration.progress)

    async def _found(self, connection: Connection) -> tuple[Adapter, bool] | None:
        if self._adapter is not None:
            return self._adapter, True
        found = await adapting.find(connection, self.migration_id)
        if found is not None and found[1]:
            self._adapter = found[0]
        return found

    async def _prepare(
        self, connection: Connection, migration: Migration, between: Between
    ) -> bool:
        """Have pairs embedded before anything else, and fit once there are enough."""
        rows = int(migration.progress.get("rows") or migration.plan.get("rows") or 0)
        enough = max(MIN_PAIRS, min(MAX_PAIRS, rows // 5))
        if await adapting.pairs_waiting(connection, between) >= enough:
            await self._fit(connection, between)
            return True
        if not self._sampled:
            self._sampled = True
            await _ring(connection, migration, between, rows)
        return False

    async def _fit(self, connection: Connection, between: Between) -> None:
        old, new = await adapting.pairs(connection, between)
        if len(old) < MIN_PAIRS:
            return
        # A second or two of matrix products, which do not hold the interpreter's lock.
        adapter, measured = await asyncio.to_thread(fit, old, new)
        await adapting.keep(connection, self.migration_id, adapter, measured)
        log.info(
            "adapter fitted",
            migration=str(self.migration_id),
            kind=adapter.kind,
            pairs=measured.pairs,
            cosine=round(measured.cosine, 3),
            overlap=round(measured.overlap, 3),
            overlap_waiting=round(measured.overlap_waiting, 3),
            used=measured.is_worth_reading,
        )

    async def _read_early(self, adapter: Adapter, between: Between, places: list[Place]) -> bool:
        """Let namespaces read the new space; False when that has to be tried again.

        Nothing is stored in the old space meanwhile: what is mapped inside the fence is the rest.
        """
        way = Way(between.source, between.target)
        move = Move(self._service, self.migration_id, way, state=None, patience_s=0.0)
        turned: list[Flip] = []
        async with move.fenced(places):
            with contextlib.suppress(HeldError):
                async with cutting.impatient(self._service.pool) as connection:
                    for place in places:
                        await _fill(connection, adapter, between, place)
                    checked = dict.fromkeys(places, _LAST_SEQ)
                    turned = await cutting.flip(
                        connection, way, checked, migration=self.migration_id, state=None
                    )
        flipped = sum(flip.flipped for flip in turned)
        log.info("read early", migration=str(self.migration_id), namespaces=flipped)
        return flipped > 0


async def _ring(connection: Connection, migration: Migration, between: Between, rows: int) -> None:
    """Queue some memories of everywhere: the backfill would go one namespace after another."""
    ids = await adapting.sample(connection, between, migration.workspaces, rows, MAX_PAIRS)
    owned: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for workspace, memory in ids:
        owned[workspace].append(memory)
    batches = [
        (workspace, memories[start : start + BATCH])
        for workspace, memories in owned.items()
        for start in range(0, len(memories), BATCH)
    ]
    if batches:
        await bulk.add(connection, between.target, batches)


async def _fill(connection: Connection, adapter: Adapter, between: Between, place: Place) -> int:
    """Map whatever a namespace's new vectors lack; return how many were taken."""
    taken, after = 0, 0
    while (page := await adapting.unmapped(connection, between, place, after, _PAGE)) is not None:
        mapped = adapter.apply(page.vectors)
        async with connection.transaction():
            taken += await adapting.store_mapped(connection, between, place[0], page, mapped)
        after = page.last
    return taken
