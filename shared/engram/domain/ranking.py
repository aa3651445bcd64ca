"""How similarity and importance become one order."""

from __future__ import annotations

from typing import Final

IMPORTANCE_WEIGHT: Final = 0.25


def blended(similarity: float, importance: float, *, weight: float = IMPORTANCE_WEIGHT) -> float:
    """Return the score of ``rank="blended"``: a weighted mean of similarity and importance.

    ``(1 - weight) * similarity + weight * importance``, the weighted sum of Park et al.,
    "Generative Agents", 2023, section 4.1, with recency inside the faded importance.

    Args:
        similarity: cosine, in [-1, 1].
        importance: what is left of it by `engram.domain.decay.faded`, in [0, 1].
        weight: of importance, in [0, 1].
    """
    return (1.0 - weight) * similarity + weight * importance
