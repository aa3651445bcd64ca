"""Looks every 30 seconds whether streams and consumers are still there, and makes them again."""

import asyncio
from collections.abc import Callable

import structlog
from nats.js import JetStreamContext

from engram import metrics
from engram.broker.topology import reconcile
from engram.errors import UnavailableError
from engram.serving.spaces import SpaceRegistry
from engram.storage import sweeps
from engram.storage.connection import UNREACHABLE, Pool

log = structlog.get_logger(__name__)

PERIOD_S = 30.0


class Watchdog:
    """Repairs the topology and makes reconcile due, because bells may have been lost with it.

    Args:
        pool: of the worker role.
        jetstream: whose topology is watched.
        spaces: which durables there must be.
        replicas: copies of each stream.
        reconnects: how often the connection to the broker was lost and made again so far.
    """

    def __init__(
        self,
        pool: Pool,
        jetstream: JetStreamContext,
        spaces: SpaceRegistry,
        replicas: int,
        reconnects: Callable[[], int] = lambda: 0,
    ) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._spaces = spaces
        self._replicas = replicas
        self._reconnects = reconnects
        self._seen_reconnects = reconnects()

    async def run(self, period_s: float = PERIOD_S) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            await self.look()

    async def look(self) -> bool:
        """Look once; True when something was missing and is there again."""
        try:
            made = await reconcile(self._jetstream, self._spaces.active, replicas=self._replicas)
            if made.anything:
                await self._report(made.streams, made.durables)
            await self._after_reconnects()
        except (*UNREACHABLE, UnavailableError) as error:
            log.warning("topology not checked", error=type(error).__name__)
            return False
        return made.anything

    async def _after_reconnects(self) -> None:
        # A broker that crashed may have lost what it had acknowledged a moment before.
        count = self._reconnects()
        if count == self._seen_reconnects:
            return
        async with self._pool.acquire() as connection:
            await sweeps.due_now(connection, "reconcile")
        self._seen_reconnects = count

    async def _report(self, streams: tuple[str, ...], durables: tuple[str, ...]) -> None:
        log.error("topology was missing and made again", streams=streams, durables=durables)
        metrics.TOPOLOGY_REPAIRS.labels("stream").inc(len(streams))
        metrics.TOPOLOGY_REPAIRS.labels("durable").inc(len(durables))
        async with self._pool.acquire() as connection:
            await sweeps.due_now(connection, "reconcile")
