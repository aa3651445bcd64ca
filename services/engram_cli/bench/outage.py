"""An outage on a simulated clock: the rules of budget, breaker and window, and no wall time."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from engram.domain import breaker as breaking
from engram.domain.breaker import Breaker
from engram.domain.budget import Level, Quota, quota_of, take
from engram.domain.retry import PauseLane, decide
from engram.domain.window import Window

OUTAGE_S: Final = 600.0
_BEGINS_S: Final = 100.0
_ENDS_S: Final = _BEGINS_S + OUTAGE_S
_TICK_S: Final = 0.02
_LATENCY_S: Final = 0.3
# An error comes back sooner than vectors do: the hardest case for the count of calls.
_ERROR_S: Final = 0.05
# Retries are claimed in Postgres once a second.
_CLAIM_S: Final = 1.0
# Half of what the quota allows arrives, so that ten minutes leave a backlog of five.
_LOAD: Final = 0.5
_FULL: Final = 0.95
_OVER_S: Final = 10.0
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the simulation saw.

    Attributes:
        calls: begun during the outage, the first ones that found it out included.
        probes: of those, known-good texts.
        full_rate_s: from recovery until 95 % of the quota flowed; infinite if it never did.
        drained_s: from recovery until the backlog was gone.
    """

    calls: int
    probes: int
    full_rate_s: float
    drained_s: float


@dataclass(slots=True)
class _World:
    quota: Quota
    chance: random.Random
    level: Level = field(default_factory=Level)
    breaker: Breaker = field(default_factory=Breaker)
    window: Window = field(default_factory=Window.remote)
    backlog: float = 0.0
    resumes_at: float = 0.0
    in_flight: deque[tuple[float, bool, bool]] = field(default_factory=deque)
    begun: list[tuple[float, bool]] = field(default_factory=list)
    done: list[float] = field(default_factory=list)

    def tick(self, now: float) -> None:
        """Answer what is due, probe if that is due, and send what may be sent."""
        calls_per_s = self.quota.tokens / self.quota.window_s / self.quota.max_call_tokens
        self.backlog += _LOAD * calls_per_s * _TICK_S
        for call in [call for call in self.in_flight if call[0] <= now]:
            self.in_flight.remove(call)
            self._answered(now, is_probe=call[1], good=call[2])
        probe_out = any(is_probe for _, is_probe, _ in self.in_flight)
        if not probe_out and breaking.may_probe(self.breaker, now):
            self.breaker = breaking.probing(self.breaker, now)
            self._begin(now, is_probe=True)
        while self.breaker.state == "closed" and now >= self.resumes_at and self._may_send(now):
            self.backlog -= 1
            self._begin(now, is_probe=False)

    def _may_send(self, now: float) -> bool:
        if self.backlog < 1 or len(self.in_flight) >= self.window.calls:
            return False
        self.level, wait_s = take(self.level, self.quota, now, self.quota.max_call_tokens)
        return wait_s == 0

    def _begin(self, now: float, *, is_probe: bool) -> None:
        good = not _BEGINS_S <= now < _ENDS_S
        self.in_flight.append((now + (_LATENCY_S if good else _ERROR_S), is_probe, good))
        self.begun.append((now, is_probe))

    def _answered(self, now: float, *, is_probe: bool, good: bool) -> None:
        if is_probe:
            self._probed(now, good=good)
        elif good:
            self.done.append(now)
            self.window = self.window.grown(len(self.in_flight) + 1)
            self.breaker = breaking.succeeded(self.breaker)
        else:
            self.backlog += 1
            self.breaker = breaking.failed(self.breaker, now, outage=True)

    def _probed(self, now: float, *, good: bool) -> None:
        if good:
            if self.breaker.pausing:
                self.resumes_at = now + _CLAIM_S
            self.breaker = breaking.proven(self.breaker)
            return
        at = _EPOCH + timedelta(seconds=now)
        verdict = decide("server", 0, at, None, self.chance.random(), provider_down=True)
        pause_s = (verdict.until - at).total_seconds() if isinstance(verdict, PauseLane) else 0.0
        self.breaker = breaking.opened(self.breaker, now, pause_s)


def simulate(seed: int = 1, model: str = "voyage-4") -> Outcome:
    """Run 100 s of ordinary work, 600 s of outage, and as long as the backlog takes."""
    quota = quota_of("voyage", model)
    if quota is None:
        raise ValueError(f"{model} has no quota")
    world = _World(quota, random.Random(seed))  # noqa: S311 - a simulation, not a secret
    tick, drained_at = 0, float("inf")
    while (now := tick * _TICK_S) < _ENDS_S + 3 * OUTAGE_S:
        world.tick(now)
        tick += 1
        if now > _ENDS_S and world.backlog < 1 and drained_at == float("inf"):
            drained_at = now
        if now > drained_at + _OVER_S:
            break
    during = [is_probe for at, is_probe in world.begun if _BEGINS_S <= at < _ENDS_S]
    full_s = _until_full(world.done, quota)
    return Outcome(len(during), sum(during), full_s, drained_at - _ENDS_S)


def _until_full(done: list[float], quota: Quota) -> float:
    """Seconds from recovery to the first answer that 10 s at 95 % of the quota follow."""
    after = [at for at in done if at >= _ENDS_S]
    needed = _FULL * quota.tokens / quota.window_s * _OVER_S / quota.max_call_tokens
    for index, at in enumerate(after):
        last = index + int(needed)
        if last < len(after) and after[last] - at <= _OVER_S:
            return at - _ENDS_S
    return float("inf")
