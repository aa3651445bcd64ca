"""How importance fades, when a memory is archived for it, and how much of a namespace at once.

Importance is never rewritten: what is left of it is computed from what is stored, at the moment
of asking. docs/decay.md has the formulas and where they come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

DAY_S: Final = 86_400.0
# Of a namespace of at least CAPPED_FROM active memories one run archives this share at most.
MAX_SHARE: Final = 0.2
CAPPED_FROM: Final = 50
# Of any namespace in one run: what is picked is held in memory.
MAX_PICKED: Final = 200_000


@dataclass(frozen=True, slots=True)
class Policy:
    """How one namespace fades.

    Attributes:
        half_life_days: importance halves in this time since the last reinforcement; above 0.
        floor: below it a memory is faded, in [0, 1]; 0 is never reached.
        grace_days: how long a faded memory stays before it is archived; at least 0.
        enabled: whether anything is archived; importance fades in ranking all the same.
    """

    half_life_days: float = 30.0
    floor: float = 0.05
    grace_days: float = 30.0
    enabled: bool = True

    @property
    def archives(self) -> bool:
        """Whether a memory can ever become due."""
        return self.enabled and self.floor > 0


DEFAULT: Final = Policy()


def faded(
    importance: float,
    reinforced_at: datetime,
    now: datetime,
    *,
    half_life_days: float = DEFAULT.half_life_days,
    pinned: bool = False,
) -> float:
    """Return what is left of an importance: halved for every half-life since reinforcement.

    ``importance * 2 ** (-age / half_life)``: exponential forgetting, after Ebbinghaus, "Über das
    Gedächtnis", 1885. A time in the future counts as now; what is pinned does not fade.

    Args:
        importance: as stored, in (0, 1].
        reinforced_at: last reinforcement, with an offset.
        now: the clock, with an offset.
        half_life_days: above 0.
        pinned: exempt from fading.

    Returns:
        A number in [0, importance].
    """
    if pinned:
        return importance
    age_days = max(0.0, (now - reinforced_at).total_seconds() / DAY_S)
    return float(importance * 2.0 ** (-age_days / half_life_days))


def kept_s(importance: float, policy: Policy) -> float:
    """Return for how many seconds after its last reinforcement a memory is kept.

    ``grace + half_life * max(0, log2(importance / floor))``: the time until `faded` reaches the
    floor, solved for the age, and the grace after it. Infinite where nothing is archived.
    """
    if not policy.archives:
        return math.inf
    half_lives = max(0.0, math.log2(importance / policy.floor))
    return (policy.grace_days + policy.half_life_days * half_lives) * DAY_S


def is_due(
    importance: float,
    reinforced_at: datetime,
    now: datetime,
    policy: Policy,
    *,
    pinned: bool = False,
    expires_at: datetime | None = None,
) -> bool:
    """Return whether a sweep may archive an active memory.

    What is pinned is exempt, and so is what has a time to live: its publisher has said how long it
    is wanted, and search hides it from then on.
    """
    if pinned or expires_at is not None:
        return False
    return (now - reinforced_at).total_seconds() >= kept_s(importance, policy)


def allowance(active: int, archived_before: int = 0) -> int:
    """Return how many memories of a namespace a run may still archive.

    A fifth of what was active when the run began, where that was 50 or more; a run that was
    interrupted and goes on gets no second fifth.

    Args:
        active: memories of the namespace that are active now.
        archived_before: those that this run has archived already.
    """
    at_first = active + archived_before
    if at_first < CAPPED_FROM:
        return active
    return max(0, min(math.floor(MAX_SHARE * at_first), MAX_PICKED) - archived_before)
