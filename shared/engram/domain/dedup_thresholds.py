"""From which cosines on pairs are read: by space, calibrated or the one it starts with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from engram.domain.dedup_decision import Thresholds
from engram.domain.guard import RULE_VERSION

# Of pairs that say the same in other words, the share that need not be found; and how much further
# apart than those a pair may lie that is found all the same.
_NOT_MET: Final = 0.02
_MARGIN: Final = 0.15
_LOWEST: Final = 0.3
_HIGHEST: Final = 0.9
_LEAST_PAIRS: Final = 20

# The guard decides; the cosine only has to find what is worth reading. On tests/data/memory-pairs
# 0.5 costs the local model 2 of the 133 merges the guard permits, and 0.65 eight.
_DEFAULT: Final = Thresholds(merge=0.5, propose=0.5)
# In a large namespace most pairs above 0.5 are merely about one matter, and only the nearest
# 100,000 are read: it is not worth finding the others.
_LARGE_ROWS: Final = 20_000
_LARGE_FROM: Final = 0.8


def default_thresholds(*, may_merge: bool = True) -> Thresholds:
    """Return what a space starts with, before it is calibrated."""
    return _DEFAULT if may_merge else replace(_DEFAULT, may_merge=False)


def joined_from(rows: int, thresholds: Thresholds) -> float:
    """Return the least cosine that is looked for among so many vectors."""
    return thresholds.propose if rows <= _LARGE_ROWS else max(thresholds.propose, _LARGE_FROM)


def calibrated(cosines: Sequence[float]) -> Thresholds:
    """Return the thresholds that restatement pairs call for.

    Both are the cosine that 98 % of the restatements reach, less 0.15, kept within 0.3 and 0.9 and
    cut to two places. Nothing is merged on a cosine, so this weighs only what is found against what
    is read in vain.

    Args:
        cosines: of pairs that say the same in other words; at least twenty.

    Raises:
        ValueError: there are fewer, or one is no number.
    """
    if len(cosines) < _LEAST_PAIRS or not all(math.isfinite(cosine) for cosine in cosines):
        raise ValueError(f"{_LEAST_PAIRS} restatement pairs with finite cosines are needed")
    found = sorted(cosines)[int(_NOT_MET * len(cosines))] - _MARGIN
    kept = math.floor(min(max(found, _LOWEST), _HIGHEST) * 100) / 100
    return Thresholds(merge=kept, propose=kept)


def mark(space: int, thresholds: Thresholds) -> str:
    """Name the rules of a comparison: when one of them changes, all is compared anew."""
    only = "" if thresholds.may_merge else "/proposing"
    return f"{space}/{RULE_VERSION}/{thresholds.merge:g}/{thresholds.propose:g}{only}"
