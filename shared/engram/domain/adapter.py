"""A linear map from one space to another, fitted on pairs, and how good it is on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from engram.domain.vectors import Matrix, normalise

Kind = Literal["ridge", "procrustes"]
Wide = NDArray[np.float64]

# Pairs below which nothing is fitted, and above which more teach little and only cost time.
MIN_PAIRS: Final = 500
MAX_PAIRS: Final = 4_000
NEAREST: Final = 10
# Every fifth pair measures and is never fitted on; of the others every fifth chooses the map.
_HELD_OUT: Final = 5
# Below the first, or no more than the second above what waiting reads, a map is not read through:
# less is chance (a map of shuffled pairs gave 0.06 against 0.058).
_LEAST_OVERLAP: Final = 0.3
_LEAST_GAIN: Final = 0.05
# Ridge penalties, as shares of the mean variance of the old numbers.
_PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, slots=True)
class Adapter:
    """The map ``y = (x - source_mean) @ matrix + target_mean``, scaled to length 1.

    Attributes:
        kind: how it was fitted.
        penalty: of the ridge, as a share of the mean variance; 0 for Procrustes.
        matrix: (old dimensions, new dimensions) float32.
        source_mean: (old dimensions,) float32.
        target_mean: (new dimensions,) float32.
    """

    kind: Kind
    penalty: float
    matrix: Matrix
    source_mean: Matrix
    target_mean: Matrix

    def apply(self, old: NDArray[Any]) -> Matrix:
        """Return (n, new dimensions) float32 rows of length 1 for (n, old dimensions) vectors."""
        moved = np.asarray(old, dtype=np.float32) - self.source_mean
        return normalise(moved @ self.matrix + self.target_mean)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a map is worth, on pairs it was not fitted on.

    Attributes:
        pairs: how many it was fitted on.
        held_out: how many measured it.
        cosine: mean cosine of mapped to true vectors.
        cosine_p10: what nine tenths of them reach.
        overlap: mean share of the ten nearest by true vectors that mapped ones name too; the
            queries are true vectors, as those of a search are.
        overlap_half: the same where every second vector is a true one: half of a backfill.
        overlap_waiting: the same by the old space alone, which is what waiting reads.
    """

    pairs: int
    held_out: int
    cosine: float
    cosine_p10: float
    overlap: float
    overlap_half: float
    overlap_waiting: float

    @property
    def is_worth_reading(self) -> bool:
        """Say whether mapped vectors answer more like the new space than the old one does."""
        return self.overlap >= max(_LEAST_OVERLAP, self.overlap_waiting + _LEAST_GAIN)


def fit(old: NDArray[Any], new: NDArray[Any]) -> tuple[Adapter, Measured]:
    """Fit both kinds of map on pairs in random order, and measure the better one.

    Args:
        old: (n, old dimensions) vectors of length 1.
        new: (n, new dimensions) vectors of the same texts, of length 1.

    Raises:
        ValueError: fewer than ``MIN_PAIRS`` pairs, or not as many old as new ones.
    """
    if len(old) != len(new) or len(old) < MIN_PAIRS:
        raise ValueError(f"at least {MIN_PAIRS} pairs are needed")
    held_out = np.arange(len(old)) % _HELD_OUT == 0
    x, y = _wide(old[~held_out]), _wide(new[~held_out])
    chosen = _choose(x, y)
    adapter = _ridge(x, y, (chosen,))[0] if chosen else _procrustes(x, y)
    return adapter, measure(adapter, old[held_out], new[held_out], len(x))


def measure(adapter: Adapter, old: NDArray[Any], new: NDArray[Any], pairs: int) -> Measured:
    """Hold mapped vectors against true ones of the same texts.

    Args:
        adapter: what is measured.
        old: (n, old dimensions) vectors it was not fitted on, n above ``NEAREST``.
        new: (n, new dimensions) vectors of the same texts.
        pairs: how many it was fitted on.
    """
    true, mapped = normalise(new), adapter.apply(old)
    cosines = np.einsum("ij,ij->i", true, mapped)
    right = _nearest(true, true)
    half = mapped.copy()
    half[::2] = true[::2]
    before = normalise(old)
    return Measured(
        pairs,
        len(true),
        float(cosines.mean()),
        float(np.quantile(cosines, 0.1)),
        _overlap(right, _nearest(true, mapped)),
        _overlap(right, _nearest(true, half)),
        _overlap(right, _nearest(before, before)),
    )


def _choose(x: Wide, y: Wide) -> float:
    """Return the penalty of the best ridge, 0 when Procrustes is better; by mean cosine."""
    judged = np.arange(len(x)) % _HELD_OUT == 0
    fitted = [*_ridge(x[~judged], y[~judged], _PENALTIES), _procrustes(x[~judged], y[~judged])]
    true = normalise(y[judged])
    cosines = [np.einsum("ij,ij->", true, one.apply(x[judged])) for one in fitted]
    return fitted[int(np.argmax(cosines))].penalty


def _ridge(x: Wide, y: Wide, penalties: tuple[float, ...]) -> list[Adapter]:
    """Ridge regression on centred vectors; one decomposition serves every penalty."""
    middle, centred, target_mean, wanted = _centred(x, y)
    values, axes = np.linalg.eigh(centred.T @ centred)
    projected = axes.T @ (centred.T @ wanted)
    scale = max(float(values.mean()), np.finfo(np.float64).tiny)
    # A rank that is too low gives eigenvalues just below zero.
    values = np.maximum(values, 0.0)
    return [
        _adapter(
            "ridge",
            penalty,
            axes @ (projected / (values + penalty * scale)[:, None]),
            middle,
            target_mean,
        )
        for penalty in penalties
    ]


def _procrustes(x: Wide, y: Wide) -> Adapter:
    """Return the best (semi-)orthogonal map and its best scale (Schönemann 1966)."""
    middle, centred, target_mean, wanted = _centred(x, y)
    left, strengths, right = np.linalg.svd(centred.T @ wanted, full_matrices=False)
    turned = left @ right
    length = float(np.einsum("ij,ij->", centred @ turned, centred @ turned))
    scale = float(strengths.sum()) / max(length, np.finfo(np.float64).tiny)
    return _adapter("procrustes", 0.0, scale * turned, middle, target_mean)


def _adapter(
    kind: Kind, penalty: float, matrix: Wide, source_mean: Wide, target_mean: Wide
) -> Adapter:
    narrow = (part.astype(np.float32) for part in (matrix, source_mean, target_mean))
    return Adapter(kind, penalty, *narrow)


def _centred(x: Wide, y: Wide) -> tuple[Wide, Wide, Wide, Wide]:
    source_mean, target_mean = x.mean(axis=0), y.mean(axis=0)
    return source_mean, x - source_mean, target_mean, y - target_mean


def _nearest(queries: Matrix, stored: Matrix) -> NDArray[np.intp]:
    """Return the rows nearest to each query, never the query's own; (n, ``NEAREST``)."""
    products = queries @ stored.T
    np.fill_diagonal(products, -np.inf)
    return np.argpartition(-products, NEAREST, axis=1)[:, :NEAREST]


def _overlap(right: NDArray[np.intp], found: NDArray[np.intp]) -> float:
    shared = (right[:, :, None] == found[:, None, :]).sum(axis=(1, 2))
    return float(shared.mean() / NEAREST)


def _wide(vectors: NDArray[Any]) -> Wide:
    return np.asarray(vectors, dtype=np.float64)
