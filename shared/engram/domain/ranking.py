"""How similarity and importance become one order."""

from __future__ import annotations

from datetime import datetime
from typing import Final

DEFAULT_HALF_LIFE_DAYS: Final = 30.0
IMPORTANCE_WEIGHT: Final = 0.25
_DAY_S: Final = 86_400.0


def faded(
    importance: float,
    reinforced_at: datetime,
    now: datetime,
    *,
    half_life_days: float = DEFAULT_HALF_LIFE_DAYS,
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
        A number in [0, 1].
    """
    if pinned:
        return importance
    age_days = max(0.0, (now - reinforced_at).total_seconds() / _DAY_S)
    return float(importance * 2.0 ** (-age_days / half_life_days))


def blended(similarity: float, importance: float, *, weight: float = IMPORTANCE_WEIGHT) -> float:
    """Return the score of ``rank="blended"``: a weighted mean of similarity and importance.

    ``(1 - weight) * similarity + weight * importance``, the weighted sum of Park et al.,
    "Generative Agents", 2023, section 4.1, with recency inside the faded importance.

    Args:
        similarity: cosine, in [-1, 1].
        importance: after `faded`, in [0, 1].
        weight: of importance, in [0, 1].
    """
    return (1.0 - weight) * similarity + weight * importance
