"""Which way to the pairs of one namespace is cheapest, before any vector is read."""

from __future__ import annotations

from typing import Final, Literal

Join = Literal["gemm", "pruned"]
Way = Literal["gemm", "pruned", "knn"]
"""``gemm``: all products. ``pruned``: a join of sketches. ``knn``: neighbours by the database."""

# Measured on one core with vectors of 1,024 numbers. Only ratios matter.
_GEMM_NS: Final = 13.0  # a pair
_PRUNED_NS: Final = 1.8  # a pair
_SKETCH_NS: Final = 5_000.0  # a row
_BASIS_NS: Final = 0.16e9
# Reading a row, measuring it and looking for its equals.
_FETCH_NS: Final = 20_000.0
# In the database: passing over a row and counting it, and one distance.
_SCAN_NS: Final = 5_500.0
_DISTANCE_NS: Final = 400.0
# It is everybody's, so it works only where that costs at most this share of reading all.
_KNN_SHARE: Final = 0.5
# Below, a statement of its own costs what it saves.
_KNN_LEAST_ROWS: Final = 1_000


def choose(n: int, new: int) -> Way:
    """Choose for a namespace of ``n`` rows, ``new`` of which have not been compared yet.

    Every way finds the same pairs. With ``knn`` the database holds the new rows against all others
    and hands out only those that `reach` lets pass; with the other two all rows are read.
    """
    asked = n * (_SCAN_NS + new * _DISTANCE_NS)
    read = n * _FETCH_NS + min(_costs(n, new).values())
    if n >= _KNN_LEAST_ROWS and asked <= _KNN_SHARE * read:
        return "knn"
    return choose_join(n, new)


def choose_join(n: int, new: int) -> Join:
    """Choose how ``n`` rows that have been read are joined."""
    costs = _costs(n, new)
    return "gemm" if costs["gemm"] <= costs["pruned"] else "pruned"


def reach(threshold: float, dimensions: int) -> float:
    """Return a cosine distance that pgvector's ``<=>`` exceeds for no pair of ``threshold``.

    It sums d products in float32, and each square of a length alike: each sum errs by at most
    d·2⁻²⁴ of |x||y| in any order (Higham, Accuracy and Stability of Numerical Algorithms, section
    3.1), the quotient by the two together. Allowed is twice that.
    """
    return 1.0 - threshold + (2 * dimensions + 16) * 2.0**-23


def pairs_of(n: int, new: int) -> float:
    """Return how many pairs of ``n`` rows have at least one of the ``new`` ones."""
    return new * (n - (new + 1) / 2)


def _costs(n: int, new: int) -> dict[Join, float]:
    pairs = pairs_of(n, new)
    pruned = pairs * _PRUNED_NS + n * _SKETCH_NS + _BASIS_NS
    return {"gemm": pairs * _GEMM_NS, "pruned": pruned}
