"""How long a client waits between tries: full jitter under a doubling ceiling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds on trying again.

    Attributes:
        attempts: tries in all, the first included.
        base_s: ceiling of the first wait, in seconds; it doubles with each further one.
        cap_s: highest ceiling, in seconds.
        max_wait_s: a server that asks for a longer wait than this is not waited for.
    """

    attempts: int = 5
    base_s: float = 0.25
    cap_s: float = 8.0
    max_wait_s: float = 60.0

    def wait_s(self, attempt: int, draw: float, floor_s: float = 0.0) -> float | None:
        """Return the seconds to wait after a failed try, or ``None`` to give up.

        Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): many clients that
        failed together do not come back together.

        Args:
            attempt: the try that failed, from 1.
            draw: a random number in [0, 1).
            floor_s: the shortest wait the server asked for (``Retry-After``).
        """
        if attempt >= self.attempts or floor_s > self.max_wait_s:
            return None
        # The exponent is bounded so that a huge attempt number cannot overflow a float.
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 60))
        return floor_s + draw * ceiling_s
