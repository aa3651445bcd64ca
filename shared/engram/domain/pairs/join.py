"""The join: tiles of products, a filter that loses nothing, and an exact look at what is left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engram.domain.pairs.choice import choose_join, pairs_of
from engram.domain.pairs.exact import Exact, Rows, Vectors
from engram.domain.pairs.filters import Filter, Sketched, Whole
from engram.domain.pairs.sketch import Matrix, best_basis
from engram.domain.pairs.twins import Chunk, Mask, Twins

CHUNK_PAIRS: Final = 65_536
# One product is 512 x 1,024 float32: 2 MB, a core's own cache. Reading vectors costs a tenth of a
# product of so few rows, so the columns are read once for many of them.
_PANEL_ROWS: Final = 4_096
_TILE_ROWS: Final = 512
_TILE_COLUMNS: Final = 1_024
# A product of all rows and columns is cheaper than pair by pair from this share of candidates on:
# about 11 ns an element against 1.5 µs a pair.
_BLOCK_SHARE: Final = 1 / 125


@dataclass(frozen=True, slots=True)
class Join:
    """All pairs of rows whose cosine is at least ``threshold``, made by `prepare`.

    Attributes:
        twins: equal vectors; the tiles hold only the first of each.
        wanted: positions of the filter that are compared with all later ones.
        size: numbers in a sketch, 0 for plain GEMM.
    """

    exact: Exact
    twins: Twins
    filter: Filter
    whole: Whole
    threshold: float
    wanted: int
    size: int

    @property
    def panels(self) -> int:
        """How many parts `distinct_pairs` has; later ones are smaller in a full pass."""
        return -(-self.wanted // _PANEL_ROWS)

    def pairs(self, chunk_pairs: int = CHUNK_PAIRS) -> Iterator[Chunk]:
        """Yield all pairs, each once, at most ``chunk_pairs`` a chunk.

        The order is the same for the same vectors, and no other promise is made about it.
        """
        yield from self.twins.expand(self.twin_pairs(), chunk_pairs)
        for chunk in self.distinct_pairs():
            yield from self.twins.expand(chunk, chunk_pairs)

    def twin_pairs(self) -> Chunk:
        """Return a pair (i, i) for each group of equal vectors, of cosine 1."""
        rows = np.flatnonzero((self.twins.count > 1) & (self.exact.squares > 0))
        return Chunk(rows, rows, np.ones(len(rows)))

    def distinct_pairs(self, panels: Iterable[int] | None = None) -> Iterator[Chunk]:
        """Yield the pairs among the first of equal vectors, ``i < j``, a chunk for each tile.

        Args:
            panels: which parts, all by default. Parts may be computed at the same time.
        """
        buffer = np.empty(_TILE_ROWS * _TILE_COLUMNS, dtype=np.float32)
        for panel in range(self.panels) if panels is None else panels:
            for p, q in self._candidates(panel * _PANEL_ROWS, buffer):
                yield self._checked(p, q)

    def _candidates(self, start: int, buffer: Matrix) -> Iterator[tuple[Rows, Rows]]:
        """Yield positions p < q of pairs that the filter lets pass, one tile after another."""
        stop, end = min(start + _PANEL_ROWS, self.wanted), len(self.filter.order)
        left = self.filter.panel(start, stop)
        for column in range(start, end, _TILE_COLUMNS):
            last = min(column + _TILE_COLUMNS, end)
            read = last > stop
            right = self.filter.panel(column, last) if read else left[column - start : last - start]
            for row in range(start, min(stop, last), _TILE_ROWS):
                tile = left[row - start : row - start + _TILE_ROWS]
                skipped = max(row - column, 0)
                p, q = _reaching(tile, right[skipped:], self.filter.floor, buffer)
                p, q = p + row, q + column + skipped
                later = q > p
                if later.any():
                    yield p[later], q[later]

    def _checked(self, p: Rows, q: Rows) -> Chunk:
        i, j = self.filter.order[p], self.filter.order[q]
        if self.size:
            i, j = self._narrowed(i, j)
        return Chunk(*self.exact.keep(np.minimum(i, j), np.maximum(i, j), self.threshold))

    def _narrowed(self, i: Rows, j: Rows) -> tuple[Rows, Rows]:
        """Where candidates crowd, replace them by what whole vectors let pass in float32."""
        left, of_left = np.unique(i, return_inverse=True)
        right, of_right = np.unique(j, return_inverse=True)
        if len(i) < len(left) * len(right) * _BLOCK_SHARE:
            return i, j
        products = self.whole.rows(left) @ self.whole.rows(right).T
        near = products[of_left, of_right] >= self.whole.floor
        return i[near], j[near]


def prepare(
    vectors: Vectors,
    threshold: float,
    *,
    new: Mask | None = None,
    way: Literal["gemm", "pruned"] | None = None,
) -> Join:
    """Measure the vectors and choose how to join them.

    Args:
        vectors: (n, d) floats of one namespace and space, as they are stored; not copied.
        threshold: the least cosine of a pair, above 0 and up to 1.
        new: (n,) rows that have not been compared yet; only pairs with at least one of them are
            wanted. All of them by default.
        way: instead of the choice by size; ``pruned`` still becomes GEMM where no sketch pays.

    Rows without a direction (zero, or not finite) are in no pair.

    Raises:
        ValueError: the threshold or a shape is out of range.
    """
    _check(vectors, threshold, new)
    exact, twins = Exact.of(vectors), Twins.of(vectors, new)
    fresh, old = _parts(exact, twins)
    order = np.concatenate((fresh, old))
    whole = Whole.of(exact, order, threshold)
    chosen: Filter = whole
    size = 0
    if len(fresh) and (way or choose_join(len(order), len(fresh))) != "gemm":
        basis = best_basis(exact, order, threshold, pairs_of(len(order), len(fresh)))
        if basis is not None:
            chosen = Sketched.of(exact, basis, (fresh, old), threshold)
            size = basis.columns.shape[1]
    return Join(exact, twins, chosen, whole, threshold, len(fresh), size)


def _parts(exact: Exact, twins: Twins) -> tuple[Rows, Rows]:
    """Return the firsts that have a new row among their equals, and the others."""
    there = (twins.count > 0) & (exact.squares > 0)
    return np.flatnonzero(there & (twins.fresh > 0)), np.flatnonzero(there & (twins.fresh == 0))


def _reaching(left: Matrix, right: Matrix, floor: np.float32, buffer: Matrix) -> tuple[Rows, Rows]:
    """Return the places of the product of two matrices that are not below ``floor``."""
    shape = len(left), len(right)
    products = np.matmul(left, right.T, out=buffer[: shape[0] * shape[1]].reshape(shape))
    # Most tiles hold nothing: one maximum costs a tenth of looking for places.
    if not products.max() >= floor:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    rows = np.flatnonzero(products.max(axis=1) >= floor)
    p, q = np.nonzero(products[rows] >= floor)
    return rows[p], q


def _check(vectors: Vectors, threshold: float, new: Mask | None) -> None:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or vectors.itemsize > 8:
        raise ValueError("vectors must be a matrix of float16, float32 or float64")
    if not 0.0 < threshold <= 1.0:
        raise ValueError("the threshold of a cosine must be above 0 and at most 1")
    if new is not None and (new.dtype != np.bool_ or new.shape != (len(vectors),)):
        raise ValueError("new must be one boolean for each vector")
