"""From which cosines on pairs are merged or proposed: by space, measured or taken from its model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from engram.domain.dedup_decision import Thresholds
from engram.domain.guard import RULE_VERSION
from engram.domain.spaces import SpaceSpec

# Of pairs that say the same in other words, this share may lie below the threshold.
_LEFT_TO_PROPOSALS: Final = 0.05
_NOT_MET: Final = 0.02
_LOWEST: Final = 0.3
_HIGHEST: Final = 0.95

# Measured by `engram dedup calibrate`; a model that is not here has those of none in particular.
_DEFAULTS: Final[dict[str, Thresholds]] = {}
_OTHERS: Final = Thresholds(merge=0.8, propose=0.6)


def default_thresholds(spec: SpaceSpec) -> Thresholds:
    """Return what a space starts with, before it is calibrated."""
    return _DEFAULTS.get(spec.provider, _OTHERS)


def calibrated(cosines: Sequence[float]) -> Thresholds:
    """Return the thresholds that restatement pairs call for.

    The guard proves that nothing is lost, so a cosine only has to find the pairs worth reading:
    ``merge`` is the cosine that 95 % of the restatements reach, ``propose`` the one of 98 %, both
    kept within 0.3 and 0.95 and cut to two places.

    Args:
        cosines: of pairs that say the same in other words; at least twenty.

    Raises:
        ValueError: there are fewer, or one is no number.
    """
    if len(cosines) < 20 or not all(math.isfinite(cosine) for cosine in cosines):
        raise ValueError("twenty restatement pairs with finite cosines are needed")
    merge, propose = (_quantile(cosines, share) for share in (_LEFT_TO_PROPOSALS, _NOT_MET))
    return Thresholds(merge=max(merge, propose), propose=propose)


def mark(space: int, thresholds: Thresholds) -> str:
    """Name the rules of a comparison: when one of them changes, all is compared anew."""
    return f"{space}/{RULE_VERSION}/{thresholds.merge:g}/{thresholds.propose:g}"


def _quantile(cosines: Sequence[float], share: float) -> float:
    ordered = sorted(cosines)
    found = ordered[int(share * len(ordered))]
    return math.floor(min(max(found, _LOWEST), _HIGHEST) * 100) / 100
