"""Rate limits of the fake provider: requests and tokens in any window, as documented ones are."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Self

# Written down here again rather than taken from `engram.domain.budget`, which is tested against
# this server. Source: docs.voyageai.com/docs/rate-limits, tier 1.
_VOYAGE_RPM: Final = 2_000
_VOYAGE_TPM: Final = {
    "voyage-4-large": 3_000_000,
    "voyage-4": 8_000_000,
    "voyage-4-lite": 16_000_000,
    "voyage-3-large": 3_000_000,
    "voyage-3.5": 8_000_000,
    "voyage-3.5-lite": 16_000_000,
}


@dataclass(slots=True)
class RateLimit:
    """An exact sliding window: the strictest reading of "per minute".

    Attributes:
        requests: accepted in any window.
        tokens: likewise.
        window_s: its length.
        announced: whether a refusal says in Retry-After when to come again.
    """

    requests: int
    tokens: int
    window_s: float = 60.0
    announced: bool = True
    _accepted: deque[tuple[float, int]] = field(default_factory=deque)
    _sum: int = 0

    @classmethod
    def documented(cls, model: str, tier: int = 1) -> Self:
        """What Voyage documents for a model and a usage tier.

        Raises:
            KeyError: nothing is written down here for this model.
        """
        return cls(_VOYAGE_RPM * tier, _VOYAGE_TPM[model] * tier)

    def refuses(self, tokens: int, now: float) -> str | None:
        """Accept a request, or return the Retry-After it is refused with, in whole seconds."""
        while self._accepted and self._accepted[0][0] <= now - self.window_s:
            self._sum -= self._accepted.popleft()[1]
        if len(self._accepted) < self.requests and self._sum + tokens <= self.tokens:
            self._accepted.append((now, tokens))
            self._sum += tokens
            return None
        if not self._accepted:
            return str(math.ceil(self.window_s))  # larger than any window will ever admit
        return str(max(1, math.ceil(self._accepted[0][0] + self.window_s - now)))
