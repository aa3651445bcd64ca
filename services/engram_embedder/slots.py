"""Slots for calls in flight, handed out by the rule of the lanes."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from engram.domain.lanes import LANES, Lane, next_lane


class Slots:
    """As many holders at once as ``calls`` says now.

    Args:
        calls: how many may be in flight; asked anew each time, because it adapts.
    """

    def __init__(self, calls: Callable[[], int]) -> None:
        self._calls = calls
        self._in_flight: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in LANES}
        self._live_in_a_row = 0

    @property
    def in_flight(self) -> int:
        """Slots held now."""
        return sum(self._in_flight.values())

    @contextlib.asynccontextmanager
    async def slot(self, lane: Lane) -> AsyncIterator[None]:
        """Hold a slot of a lane."""
        await self._acquire(lane)
        try:
            yield
        finally:
            self._give_back(lane)

    async def _acquire(self, lane: Lane) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(ready)
        self._hand_out()
        try:
            await ready
        except asyncio.CancelledError:
            # It may have been given in the same tick: it must not be lost with the waiter.
            if ready.done() and not ready.cancelled():
                self._give_back(lane)
            raise

    def _give_back(self, lane: Lane) -> None:
        self._in_flight[lane] -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while (lane := self._next()) is not None:
            contested = bool(self._waiting["bulk"])
            self._waiting[lane].popleft().set_result(None)
            self._in_flight[lane] += 1
            self._live_in_a_row = self._live_in_a_row + 1 if lane == "live" and contested else 0

    def _next(self) -> Lane | None:
        for queue in self._waiting.values():
            while queue and queue[0].done():
                queue.popleft()
        waiting = {lane: len(queue) for lane, queue in self._waiting.items()}
        return next_lane(self._calls(), self._in_flight, waiting, self._live_in_a_row)
