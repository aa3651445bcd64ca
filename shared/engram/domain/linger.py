"""How long a lane waits for company before it calls: not at all when nobody else is coming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Nobody notices it in the time to a vector, and a burst of single writes becomes one call.
MOST_S: Final = 0.02
_COMPANY: Final = 8
_WEIGHT: Final = 0.2
_LONG_AGO_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The rhythm of bells: an exponentially weighted mean of the gaps between them.

    Attributes:
        gap_s: the mean gap, in seconds; a lane that has seen nothing expects nothing.
        last_at: when the last one came, in seconds of a steady clock.
    """

    gap_s: float = _LONG_AGO_S
    last_at: float = float("-inf")

    def seen(self, now: float) -> Arrivals:
        """Return the rhythm after an arrival; one long gap is forgotten as fast as a short one."""
        gap_s = min(max(0.0, now - self.last_at), _LONG_AGO_S)
        return Arrivals(self.gap_s + _WEIGHT * (gap_s - self.gap_s), now)

    def linger_s(self, waiting: int) -> float:
        """Return how long to wait when so many bells are there already, in seconds.

        The time in which company of eight is to be expected, at most ``MOST_S``; nothing when the
        next bell is expected later than that.
        """
        if waiting >= _COMPANY or self.gap_s > MOST_S:
            return 0.0
        return min(MOST_S, self.gap_s * (_COMPANY - waiting))
