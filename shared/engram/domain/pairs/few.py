"""Few vectors at once: most small namespaces hold nothing near, and one product shows it."""

from __future__ import annotations

from typing import Final

import numpy as np

from engram.domain.pairs.exact import Vectors
from engram.domain.pairs.filters import floor_of
from engram.domain.pairs.twins import Mask

# The product of all pairs and the rows in float32 stay in a core's own cache.
FEW_ROWS: Final = 512


def apart(vectors: Vectors, threshold: float, new: Mask | None = None) -> bool:
    """Say whether certainly no pair of a few float16 rows has a cosine of ``threshold``.

    Costs a third of `join.prepare` with its pairs, which is for those that this does not settle:
    near ones, more than `FEW_ROWS`, wider floats, rows that have no direction.

    For halves nothing overflows or underflows in float32. A sum of d products errs by at most
    d·2⁻²⁴ of |x||y| in any order (Higham, Accuracy and Stability of Numerical Algorithms, section
    3.1), a length by half as much, and a few roundings come on top: twice d + 9 is allowed.

    Args:
        vectors: (n, d) rows of one namespace and space.
        threshold: the least cosine of a pair, above 0 and up to 1.
        new: (n,) only pairs with at least one of these count; all by default.
    """
    if vectors.dtype != np.float16 or len(vectors) > FEW_ROWS:
        return False
    rows = vectors.astype(np.float32)
    fresh = slice(None) if new is None or new.all() else new
    left = rows[fresh]
    lengths = np.sqrt(np.vecdot(rows, rows))
    floor = floor_of(threshold - 2 * (vectors.shape[1] + 9) * 2.0**-24)
    # Not ">=": a row that is not finite must not pass for one that is far from all.
    with np.errstate(invalid="ignore"):
        met = ~(left @ rows.T < np.outer(lengths[fresh] * floor, lengths))
    met[np.arange(len(left)), np.arange(len(rows))[fresh]] = False
    return not met.any()
