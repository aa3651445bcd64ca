"""The exporter of stock: one curator at a time reads what there is now and shows it on /metrics."""

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from uuid import uuid4

import structlog

from engram import metrics
from engram.broker import standing, topology
from engram.broker.standing import LaneStanding, StreamStanding
from engram.errors import UnavailableError
from engram.serving.cancelling import heed_cancellation
from engram.serving.process import Service
from engram.storage import stock, sweeps
from engram.storage.connection import UNREACHABLE
from engram_curator import stock_gauges as gauges

log = structlog.get_logger(__name__)

NAME = "stock"
_EVERY_S = 15.0
_LEASE = timedelta(seconds=45)
# Counting every memory takes a second or two for a million. It may take a thirtieth of the time of
# one connection, however many there are: ten millions are counted every ten minutes.
_REST = 30.0


class Exporter:
    """Reads stock while it has the lease, and shows nothing while another curator has it.

    Args:
        service: whose pool and broker are read.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._holder = uuid4()
        self._held_at: float | None = None
        self._counting: asyncio.Task[None] | None = None
        self._count_at = 0.0

    async def round(self) -> bool:
        """Look once; True while the figures are this process's to show."""
        try:
            if not await self._hold():
                await self._hide()
                return False
            error = await self._read()
            async with self._service.pool.acquire() as connection:
                await stock.held(connection, NAME, self._holder, error)
        except UNREACHABLE as error_:
            log.warning("stock not read", error=type(error_).__name__)
            # Old figures are shown with their age, until the lease may be another's.
            if self._held_at is None or time.monotonic() - self._held_at > _LEASE.total_seconds():
                await self._hide()
                return False
        return True

    async def _hold(self) -> bool:
        async with self._service.pool.acquire() as connection:
            mine = await stock.hold(connection, NAME, self._holder, _LEASE)
        if mine:
            self._held_at = time.monotonic()
        return mine

    async def _read(self) -> str | None:
        """Read the quick tier, and begin to count when that is due; the error of the broker."""
        service, started = self._service, time.perf_counter()
        async with service.pool.acquire() as connection:
            quick = await stock.quick(connection)
        streams, lanes, error = await self._broker()
        keys = {space: service.spaces.key(space) for space in service.spaces.all}
        for key, repair in itertools.product(keys.values(), ("deleted", "due")):
            metrics.RECONCILE_REPAIRS.labels(key, repair)
        gauges.show_quick(quick, keys)
        gauges.show_broker(streams, ((*self._lane(one), one) for one in lanes))
        gauges.show_disk(self._disk())
        gauges.show_reading("quick", time.perf_counter() - started)
        metrics.show_stock(shown=True)
        if self._counting is None and time.monotonic() >= self._count_at:
            self._counting = asyncio.create_task(self._count())
        return error

    async def _broker(self) -> tuple[Iterable[StreamStanding], list[LaneStanding], str | None]:
        """Return streams, lanes, and what went wrong; nothing of either while NATS is away."""
        try:
            streams = await standing.streams(self._service.broker)
            durables = topology.durables(self._service.spaces.active)
            lanes = await standing.lanes(self._service.jetstream, durables, streams)
        except UnavailableError as error:
            log.warning("streams not measured", code=error.code)
            return (), [], error.code
        return streams.values(), lanes, None

    def _lane(self, standing_: LaneStanding) -> tuple[str, str]:
        """Return the lane and the space of a durable."""
        for space in self._service.spaces.active:
            if standing_.durable == topology.embed_durable(space).name:
                return "live", self._service.spaces.key(space)
        return standing_.durable, ""

    def _disk(self) -> tuple[int, int] | None:
        """Return free and all bytes of the disk, where this process stands on the same machine."""
        folder = self._service.settings.data_dir
        if folder is None:
            return None
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(folder)
            return usage.free, usage.total
        return None

    async def _count(self) -> None:
        """Count everything once, then rest in proportion."""
        started = time.perf_counter()
        try:
            spaces = self._service.spaces.active
            keys = {space: self._service.spaces.key(space) for space in spaces}
            async with self._service.pool.acquire() as connection:
                counted = await stock.count(connection, spaces)
            gauges.show_counted(counted, keys)
            gauges.show_reading("counted", time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - a space may have gone meanwhile; looked at again
            log.warning("stock not counted", error=type(error).__name__)
        finally:
            took_s = time.perf_counter() - started
            self._count_at = time.monotonic() + max(_EVERY_S - 1, _REST * took_s)
            self._counting = None

    async def _hide(self) -> None:
        metrics.show_stock(shown=False)
        self._count_at = 0.0
        if (counting := self._counting) is not None:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)

    async def close(self) -> None:
        """Show nothing any more, and let another curator begin at once."""
        await self._hide()
        with contextlib.suppress(*UNREACHABLE):
            async with asyncio.timeout(2), self._service.pool.acquire() as connection:
                await stock.release(connection, NAME, self._holder)


@contextlib.asynccontextmanager
async def exporting(service: Service) -> AsyncIterator[Exporter]:
    """Yield an exporter that shows nothing once it is left."""
    exporter = Exporter(service)
    try:
        async with service.pool.acquire() as connection:
            await sweeps.ensure_sweeps(connection, {NAME: timedelta(seconds=_EVERY_S)})
        yield exporter
    finally:
        await exporter.close()


async def export(service: Service) -> None:
    """Export stock until cancelled."""
    async with exporting(service) as exporter:
        while True:
            await exporter.round()
            heed_cancellation()
            await asyncio.sleep(_EVERY_S)
