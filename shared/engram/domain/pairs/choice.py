"""Which way to the pairs of one namespace is cheapest, before any vector is read."""

from __future__ import annotations

from typing import Final, Literal

from engram.domain.indexing import TAIL_ROWS

Way = Literal["gemm", "pruned", "knn"]
"""``gemm``: all products. ``pruned``: a join of sketches. ``knn``: ask the database's index."""

# Measured on one core with vectors of 1,024 numbers. Only ratios matter.
_GEMM_NS: Final = 13.0  # a pair
_PRUNED_NS: Final = 1.8  # a pair
_SKETCH_NS: Final = 5_000.0  # a row
_BASIS_NS: Final = 0.16e9
_FETCH_NS: Final = 20_000.0  # a row
# Not measured: what a filtered search of an index of 100,000 rows may take.
_KNN_NS: Final = 5.0e6  # a new row


def choose(n: int, new: int) -> Way:
    """Choose for a namespace of ``n`` rows, ``new`` of which have not been compared yet.

    ``knn`` is chosen only where indexes exist, and finds what they find: what it returns is checked
    exactly, and the next full pass finds what it missed. The other two find every pair.
    """
    pairs = pairs_of(n, new)
    gemm = pairs * _GEMM_NS
    pruned = pairs * _PRUNED_NS + n * _SKETCH_NS + _BASIS_NS
    here: Way = "gemm" if gemm <= pruned else "pruned"
    if n >= TAIL_ROWS and new * _KNN_NS < n * _FETCH_NS + min(gemm, pruned):
        return "knn"
    return here


def pairs_of(n: int, new: int) -> float:
    """Return how many pairs of ``n`` rows have at least one of the ``new`` ones."""
    return new * (n - (new + 1) / 2)
