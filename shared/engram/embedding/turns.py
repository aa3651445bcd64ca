"""A lock that hands itself to those in a hurry first, and forgets nobody."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator
from typing import Final

# A lower rank goes ahead of this many who came before it, and no more: a storm of queries then
# leaves one turn in nine to documents.
OVERTAKEN_AT_MOST: Final = 8


class Turns:
    """One holder at a time; the lowest rank waits least, and equals wait in order of arrival."""

    def __init__(self) -> None:
        self._held = False
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[None]:
        """Hold the lock; ``rank`` 0 goes before 1, which goes before 2.

        Whoever waits is overtaken by at most ``OVERTAKEN_AT_MOST`` later ones for each rank that
        they are ahead.
        """
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
        arrival = next(self._arrivals)
        heapq.heappush(self._waiting, (arrival + rank * OVERTAKEN_AT_MOST, rank, arrival, ready))
        try:
            await ready
        except asyncio.CancelledError:
            # The turn may have been given in the same tick: it must not be lost with the waiter.
            if ready.done() and not ready.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            ready = heapq.heappop(self._waiting)[3]
            if not ready.done():
                ready.set_result(None)
                return
        self._held = False
