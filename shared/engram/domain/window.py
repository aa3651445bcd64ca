"""How many calls to a provider may be in flight: grows while all are used, halves when crowded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# What is in flight together fails together: that is one sign, not many.
SHRINK_EVERY_S: Final = 1.0
_MOST_REMOTE: Final = 32
_LOCAL: Final = 8


@dataclass(frozen=True, slots=True)
class Window:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), with TCP's slow start.

    Attributes:
        size: calls that may be in flight; the part below one call is growth being saved up.
        most: never more than this.
        steady: it has shrunk once, so it grows by one call a window instead of one a call.
        shrunk_at: when it last shrank, in seconds of a steady clock.
    """

    size: float
    most: int
    steady: bool = False
    shrunk_at: float = float("-inf")

    @classmethod
    def remote(cls) -> Window:
        """The window of a provider behind a network: latency is hidden by calls in flight."""
        return cls(4.0, _MOST_REMOTE)

    @classmethod
    def local(cls) -> Window:
        """The window of a model on this machine."""
        return cls(float(_LOCAL), _LOCAL)

    @property
    def calls(self) -> int:
        """Whole calls that may be in flight, at least 1."""
        return max(1, int(self.size))

    def grown(self, in_flight: int) -> Window:
        """After an answer while ``in_flight`` calls were out: an unused window proves nothing."""
        if in_flight < self.calls:
            return self
        step = 1.0 / self.size if self.steady else 1.0
        return replace(self, size=min(float(self.most), self.size + step))

    def shrunk(self, now: float) -> Window:
        """After a 429 or a timeout: half, at most once a second."""
        if now - self.shrunk_at < SHRINK_EVERY_S:
            return self
        return replace(self, size=max(1.0, self.size / 2), steady=True, shrunk_at=now)
