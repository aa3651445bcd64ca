"""Drives migrations: claims one by lease, grants what is wished, keeps its backfill going."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from engram.errors import ConflictError, EngramError, UnavailableError
from engram.serving.process import Service
from engram.storage import migrating, migration_leases, migration_wishes
from engram.storage.connection import CONTENDED, UNREACHABLE
from engram.storage.migrating import Migration
from engram_migrator.adapting import Adapting
from engram_migrator.backfill import Backfill
from engram_migrator.granting import grant

log = structlog.get_logger(__name__)

_LEASE: Final = timedelta(seconds=10)
_EXTEND_S: Final = 3.0
# A claim that finds nothing is one index scan of a table of a few rows.
_LOOK_S: Final = 0.5
_BUSY_S: Final = 0.1
_TROUBLE_S: Final = 2.0
_STEPPING: Final = ("dual_write", "backfill")


class Driver:
    """Works on whatever migration has something to do; any number of processes may run one.

    Args:
        service: the process.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._holder = uuid4()

    async def run(self) -> None:
        """Drive until cancelled; what is held is given back then."""
        while True:
            try:
                drove = await self.drive_one()
            except (*UNREACHABLE, UnavailableError) as error:
                log.warning("migrator waits", error=type(error).__name__)
                drove = False
            if not drove:
                await asyncio.sleep(_LOOK_S)

    async def drive_one(self) -> bool:
        """Claim a migration and work on it until nothing is left to do; False if there is none."""
        async with self._service.pool.acquire() as connection:
            claimed = await migration_leases.claim(connection, self._holder, _LEASE)
        if claimed is None:
            return False
        async with self._held(claimed) as lost:
            await _Drive(self._service, claimed, lost).run()
        return True

    @contextlib.asynccontextmanager
    async def _held(self, migration_id: UUID) -> AsyncIterator[asyncio.Event]:
        """Extend the lease while inside, and say when it was lost."""
        lost = asyncio.Event()
        extending = asyncio.create_task(self._extend(migration_id, lost))
        try:
            yield lost
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)
            with contextlib.suppress(*UNREACHABLE):
                async with self._service.pool.acquire() as connection:
                    await migration_leases.give_back(connection, migration_id, self._holder)

    async def _extend(self, migration_id: UUID, lost: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(_EXTEND_S)
            with contextlib.suppress(*UNREACHABLE):
                async with self._service.pool.acquire() as connection:
                    if not await migration_leases.extend(
                        connection, migration_id, self._holder, _LEASE
                    ):
                        lost.set()
                        return


class _Drive:
    """One claimed migration: its backfill goes on while a wish is granted beside it."""

    def __init__(self, service: Service, migration_id: UUID, lost: asyncio.Event) -> None:
        self._service = service
        self._id = migration_id
        self._lost = lost
        self._backfill = Backfill(service, migration_id)
        self._adapting = Adapting(service, migration_id)
        self._granting: asyncio.Task[bool] | None = None
        self._granted_at: str | None = None

    async def run(self) -> None:
        try:
            while not self._lost.is_set():
                wait_s = await self._turn()
                if wait_s is None:
                    return
                await self._sleep(wait_s)
        finally:
            await self._stop_granting()

    async def _turn(self) -> float | None:
        """Do what is to be done now; return when to look again, None when nothing is left."""
        async with self._service.pool.acquire() as connection:
            migration = await migrating.read(connection, self._id)
        await self._look_at_wish(migration)
        if migration.phase not in _STEPPING:
            return _BUSY_S if self._granting else None
        try:
            did_something = await self._step(migration)
        except (*UNREACHABLE, UnavailableError, ConflictError, *CONTENDED) as error:
            # Postgres is away, or the target was dropped by an abort a moment ago.
            log.warning("backfill waits", migration=str(self._id), error=type(error).__name__)
            return _TROUBLE_S
        return _BUSY_S if did_something else _LOOK_S

    async def _step(self, migration: Migration) -> bool:
        if migration.phase == "dual_write":
            await self._backfill.count(migration)
            async with self._service.pool.acquire() as connection, connection.transaction():
                await migrating.enter(connection, migration, "backfill", actor="migrator")
            self._service.relay.wake()
            return True
        adapted = await self._adapting.step(migration)
        return await self._backfill.step(migration) or adapted

    async def _look_at_wish(self, migration: Migration) -> None:
        """Begin what is wished; a newer wish ends the older one, which can be begun again."""
        at = migration.wish["at"] if migration.wish else None
        if self._granting is not None and (self._granting.done() or at != self._granted_at):
            await self._stop_granting()
        if self._granting is None and at is not None:
            self._granted_at = at
            self._granting = asyncio.create_task(self._grant(migration))

    async def _grant(self, migration: Migration) -> bool:
        """Do what is wished and say what came of it; trouble leaves the wish for the next turn."""
        try:
            await grant(self._service, migration)
        except (*UNREACHABLE, UnavailableError) as error:
            log.warning("wish waits", migration=str(self._id), error=type(error).__name__)
            await asyncio.sleep(_TROUBLE_S)
            return False
        except EngramError as error:
            await self._refuse(migration, error)
            return False
        except Exception as error:
            log.error(
                "wish failed, and is tried again",
                migration=str(self._id),
                error=type(error).__name__,
                exc_info=error,
            )
            await self._note(migration, error)
            await asyncio.sleep(_TROUBLE_S)
            return False
        return True

    async def _note(self, migration: Migration, error: Exception) -> None:
        """Let a person see what is tried again and again; the wish stays."""
        failed = EngramError(
            "migrator_failed",
            f"It failed ({type(error).__name__}) and is tried again.",
            cure="The log of the migrator tells more; `engram migrate abort` gives up.",
        )
        with contextlib.suppress(*UNREACHABLE):
            async with self._service.pool.acquire() as connection:
                await migration_wishes.note_error(
                    connection, migration.id, _noted(migration, failed)
                )

    async def _refuse(self, migration: Migration, error: EngramError) -> None:
        noted = _noted(migration, error)
        log.warning("wish refused", migration=str(self._id), verb=noted["verb"], code=error.code)
        async with self._service.pool.acquire() as connection, connection.transaction():
            await migration_wishes.fulfil(connection, migration, noted)
            counts = {"verb": noted["verb"], "code": error.code}
            await migrating.tell(connection, migration, "refused", "migrator", counts)
        self._service.relay.wake()

    async def _stop_granting(self) -> None:
        if self._granting is not None:
            self._granting.cancel()
            await asyncio.gather(self._granting, return_exceptions=True)
            self._granting = None

    async def _sleep(self, wait_s: float) -> None:
        """Wait, but not longer than what is being granted takes."""
        if self._granting is None:
            await asyncio.sleep(wait_s)
        else:
            await asyncio.wait({self._granting}, timeout=wait_s)


def _noted(migration: Migration, error: EngramError) -> dict[str, Any]:
    """Return an error as a migration keeps it."""
    return {
        "verb": (migration.wish or {}).get("verb"),
        "code": error.code,
        "detail": error.detail,
        "cure": error.cure,
        "at": datetime.now(UTC).isoformat(),
    }
