"""How fast a job goes on: at full speed alone, in small steps with rests while others wait."""

import asyncio
import time
from collections.abc import Callable, Iterator

from engram_ingest.import_batches import Batch

# Whoever asked this long ago may ask again soon.
_RECENTLY_S = 1.0
# What one step takes of the loop and of a namespace's lock is what a request may have to wait for.
_STEP_ITEMS = 100
# Of the time while others ask, an import works at most this share.
_SHARE = 1 / 4
_LONGEST_REST_S = 0.5
_OWN_ROUTES = ("/v1/imports", "/v1/memories/import", "/v1/export", "none")


class Pace:
    """Knows whether somebody waits for answers, and slows imports down for as long.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at = -_RECENTLY_S

    def note(self, route: str) -> None:
        """Say that a request of this route was answered; those about imports do not count."""
        if not route.startswith(_OWN_ROUTES):
            self._asked_at = self._clock()

    @property
    def shared(self) -> bool:
        """Whether somebody besides imports has asked lately."""
        return self._clock() - self._asked_at < _RECENTLY_S

    def steps(self, batch: Batch) -> Iterator[Batch]:
        """Yield what is to be stored in one transaction each: the batch, or parts of it in order.

        Whether it is cut is decided anew for each part.
        """
        while len(batch) > _STEP_ITEMS and self.shared:
            step, batch = batch.split(_STEP_ITEMS)
            yield step
        yield batch

    async def rest(self, worked_s: float) -> None:
        """Leave the time to others that is theirs after a step that took ``worked_s``."""
        if self.shared:
            await asyncio.sleep(min(worked_s * (1 / _SHARE - 1), _LONGEST_REST_S))
