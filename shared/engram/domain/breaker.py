"""When a provider is taken for down, and how its return is noticed.

            failure, and no recent proof             the known-good text fails
    closed ------------------------------> suspect ------------------------------> open
       ^                                      |                                   |   ^
       |         the known-good text passes   |             one probe, when it is |   | it fails
       +--------------------------------------+                   due             v   |
       +----------------------------------------------------------------------- half_open
                                 the known-good text passes

Failures of texts never open it by themselves: a text that makes a provider answer 500 would then
stop its neighbours. They make it suspect, and a known-good text decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

State = Literal["closed", "suspect", "open", "half_open"]

# For so long a known-good text's success vouches for the provider.
PROOF_S: Final = 5.0
# So many failures in a row, without one success, outweigh it.
FAILURES: Final = 3
MIN_PROBE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is known of one provider and model; times are seconds of any one steady clock.

    Attributes:
        state: only ``closed`` lets work through.
        failures: outage-class failures since the last success.
        probed_at: when the last probe was sent.
        probe_at: while open, when the next one may be.
    """

    state: State = "closed"
    failures: int = 0
    probed_at: float = -math.inf
    probe_at: float = 0.0

    @property
    def severity(self) -> float:
        """0 closed, 0.5 waiting for a probe's answer, 1 open."""
        return {"closed": 0.0, "suspect": 0.5, "half_open": 0.5, "open": 1.0}[self.state]

    @property
    def pausing(self) -> bool:
        """Work goes to Postgres; while merely suspect it waits where it is."""
        return self.state in {"open", "half_open"}


def succeeded(breaker: Breaker) -> Breaker:
    """An ordinary call was answered. What was sent before an outage says nothing of its end."""
    return replace(breaker, failures=0) if breaker.state == "closed" else breaker


def failed(breaker: Breaker, now: float, *, outage: bool) -> Breaker:
    """An ordinary call failed.

    Args:
        breaker: before.
        now: the time.
        outage: the class is one that an outage shows (5xx, timeout, connection, broken reply);
            a refusal makes it suspect too, but never outweighs a proof.
    """
    if breaker.state != "closed":
        return breaker
    failures = breaker.failures + outage
    silent_s = now - breaker.probed_at
    doubtful = silent_s >= PROOF_S or (failures >= FAILURES and silent_s >= MIN_PROBE_S)
    return replace(breaker, failures=failures, state="suspect" if doubtful else "closed")


def may_probe(breaker: Breaker, now: float) -> bool:
    """Whether one known-good text may be sent now; say so by `probing` before it is."""
    return breaker.state == "suspect" or (breaker.state == "open" and now >= breaker.probe_at)


def probing(breaker: Breaker, now: float) -> Breaker:
    """A probe is being sent."""
    state: State = "half_open" if breaker.state == "open" else "suspect"
    return replace(breaker, state=state, probed_at=now)


def proven(breaker: Breaker) -> Breaker:
    """The known-good text was answered: work goes on at full rate."""
    return replace(breaker, state="closed", failures=0)


def opened(breaker: Breaker, now: float, pause_s: float) -> Breaker:
    """The known-good text failed, or the provider refuses everybody: nothing for ``pause_s``.

    Opening what is open already only ever makes it later.
    """
    probe_at = now + max(pause_s, MIN_PROBE_S)
    if breaker.state == "open":
        probe_at = max(probe_at, breaker.probe_at)
    return replace(breaker, state="open", probe_at=probe_at)
