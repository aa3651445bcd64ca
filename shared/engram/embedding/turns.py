"""A lock that hands itself to queries before documents."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator


class Turns:
    """One holder at a time; the lowest rank waits least, and equals wait in order of arrival."""

    def __init__(self) -> None:
        self._held = False
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[None]:
        """Hold the lock; ``rank`` 0 goes before 1."""
        await self._acquire(rank)
        try:
            yield
        finally:
            self._pass_on()

    async def _acquire(self, rank: int) -> None:
        if not self._held:
            self._held = True
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._arrivals), ready))
        try:
            await ready
        except asyncio.CancelledError:
            # The turn may have been given in the same tick: it must not be lost with the waiter.
            if ready.done() and not ready.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            ready = heapq.heappop(self._waiting)[2]
            if not ready.done():
                ready.set_result(None)
                return
        self._held = False
