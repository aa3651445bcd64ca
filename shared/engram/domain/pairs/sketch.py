"""Short vectors whose products are never below the cosines they stand for.

For an orthonormal V, x = VVᵀx + r and x·x' = (Vᵀx)·(Vᵀx') + r·r'. By Cauchy and Schwarz r·r' is at
most |r||r'|, so y = [Vᵀx, |r|] has y·y' ≥ x·x'. Any V keeps that; one that holds much of the
vectors' length makes it tight. V is found by subspace iteration on a sample (Halko,
Martinsson and Tropp 2011, algorithm 4.4), started from the sample itself instead of from chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.pairs.exact import Exact, Floats, Rows

Matrix = NDArray[np.float32]

SIZES: Final = (32, 64, 96, 128, 192, 256)
_SAMPLE_ROWS: Final = 2048
_JUDGED_ROWS: Final = 768
_CHUNK_ROWS: Final = 512
_ITERATIONS: Final = 2
# Added to |r|² before its root: far above what float64 loses on the way, and no harm to the bound.
_RESIDUAL_SLACK: Final = 1e-11
# Nanoseconds, measured on one core; only their ratios matter, and only to the choice.
_NS_A_FACTOR: Final = 0.0137
_NS_A_DENSE_FACTOR: Final = 0.0115
_NS_A_TILE_ELEMENT: Final = 0.1
_NS_A_PROJECTED_FACTOR: Final = 0.045
_NS_A_CANDIDATE: Final = 1_500.0


@dataclass(frozen=True, slots=True)
class Basis:
    """Orthonormal columns, (d, k) float64, those that hold most first."""

    columns: Floats

    @property
    def slack(self) -> float:
        """How far below x·x' a float32 product of two sketches can fall, by rounding alone.

        Each y is rounded once, and a sum of k + 1 products errs by at most (k + 1)·2⁻²⁴|y||y'| in
        any order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); |y| is 1.
        """
        return float(self.columns.shape[1] + 9) * 2.0**-24

    def sketch(self, exact: Exact, rows: Rows) -> Matrix:
        """Return the (n, k + 1) float32 sketches of these rows."""
        size = self.columns.shape[1]
        sketches = np.empty((len(rows), size + 1), dtype=np.float32)
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            heads = exact.units(rows[part]) @ self.columns
            sketches[part, :size] = heads
            sketches[part, size] = _residuals(heads)
        return sketches


def best_basis(exact: Exact, rows: Rows, threshold: float, pairs: float) -> Basis | None:
    """Return the basis that makes a join of these rows cheapest, or None where none pays.

    Args:
        exact: the vectors; only a sample of ``rows`` is read.
        rows: those with a direction, at least one.
        threshold: the least cosine wanted.
        pairs: how many pairs the join looks at.
    """
    dimensions = exact.vectors.shape[1]
    most = min(dimensions // 2, len(rows) // 2)
    sizes = [size for size in SIZES if size <= most]
    if not sizes:
        return None
    columns = _leading(exact.units(_spread(rows[::2], _SAMPLE_ROWS)), sizes[-1])
    # Judged by others: a basis holds more of the rows it was made from than of the rest.
    heads = exact.units(_spread(rows[1::2], _JUDGED_ROWS)) @ columns
    projected_rows = len(rows) * dimensions * _NS_A_PROJECTED_FACTOR / pairs
    costs = {0: dimensions * _NS_A_DENSE_FACTOR}
    for size in sizes:
        refining = min(_candidate_rate(heads[:, :size], threshold) * _NS_A_CANDIDATE, costs[0])
        costs[size] = size * (_NS_A_FACTOR + projected_rows) + _NS_A_TILE_ELEMENT + refining
    best = min(costs, key=costs.__getitem__)
    return Basis(np.ascontiguousarray(columns[:, :best])) if best else None


def _spread(rows: Rows, count: int) -> Rows:
    """Take ``count`` rows, or all, at even distances."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]


def _leading(sample: Floats, size: int) -> Floats:
    """Return ``size`` orthonormal columns that hold about as much of the sample as any could."""
    products = sample.T @ sample
    columns, _ = np.linalg.qr(sample[_spread(np.arange(len(sample)), size)].T)
    for _ in range(_ITERATIONS):
        columns, _ = np.linalg.qr(products @ columns)
    _, turned = np.linalg.eigh(columns.T @ products @ columns)
    leading: Floats = columns @ turned[:, ::-1]
    return leading


def _residuals(heads: Floats) -> Floats:
    left = 1.0 - np.einsum("ij,ij->i", heads, heads)
    residuals: Floats = np.sqrt(np.maximum(left, 0.0) + _RESIDUAL_SLACK)
    return residuals


def _candidate_rate(heads: Floats, threshold: float) -> float:
    """Return the share of pairs whose bound reaches the threshold, a row with itself left out."""
    sketches = np.column_stack((heads, _residuals(heads)))
    count = len(sketches)
    reached = int(np.count_nonzero(sketches @ sketches.T >= threshold)) - count
    return max(reached, 0) / max(count * (count - 1), 1)
