"""Which memories of one scope are near enough to be read: pairs of vectors, then of classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.pairs.exact import Exact, Floats, Rows, Vectors, as_float64
from engram.domain.pairs.join import prepare
from engram.domain.pairs.twins import Chunk, Mask, Twins

# Pairs of different vectors that are kept: 72 MB. Beyond them the nearest stay.
_MOST_PAIRS: Final = 3_000_000
# Pairs of different texts that are read in one scope, a millisecond each, and neighbours of one
# text when there are more.
_MOST_READ: Final = 100_000
_MOST_NEIGHBOURS: Final = 32
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Near:
    """Vectors of one scope (namespace, owner ids, space) and which of them are near.

    Attributes:
        exact: the vectors, measured.
        twins: which of them are equal.
        new: (n,) rows that were not compared yet.
        pairs: pairs of different vectors, each the first of its equals.
        left_out: pairs that were too many to keep.
    """

    exact: Exact
    twins: Twins
    new: Mask
    pairs: Chunk
    left_out: int

    @classmethod
    def of(cls, vectors: Vectors, new: Mask, threshold: float) -> Near:
        """Join (n, d) vectors; only pairs with a new row are wanted."""
        join = prepare(vectors, threshold, new=new)
        pairs, left_out = _bounded(join.distinct_pairs())
        return cls(join.exact, join.twins, new, pairs, left_out)

    def rows(self) -> Rows:
        """Return the rows of which the texts are wanted, ascending."""
        met = np.zeros(len(self.new), dtype=bool)
        met[self.pairs.i] = True
        met[self.pairs.j] = True
        firsts = self.twins.first
        twinned = (self.twins.count > 1) & (self.twins.fresh > 0) & (self.exact.squares > 0)
        return np.flatnonzero((met | twinned)[firsts])

    def cosines(self, left: Rows, right: Rows) -> Floats:
        """Return the cosine of each row of ``left`` with the one of ``right`` beside it."""
        found = np.empty(len(left))
        for start in range(0, len(left), 256):
            part = slice(start, start + 256)
            i, j = left[part], right[part]
            a, b = as_float64(self.exact.vectors[i]), as_float64(self.exact.vectors[j])
            lengths = np.sqrt(self.exact.squares[i] * self.exact.squares[j])
            found[part] = np.clip(np.einsum("ij,ij->i", a, b) / lengths, -1.0, 1.0)
        return found

    def class_pairs(self, classes: Rows, count: int) -> tuple[NDArray[np.int64], int]:
        """Return which classes of rows have near rows, and how many pairs were left out.

        Args:
            classes: (n,) the class of each row, -1 for rows that are in none.
            count: how many classes there are.

        Returns:
            (m, 2) classes a < b, ascending.
        """
        twins = self._one_of_each(classes)
        keys: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        left_out, doubled = 0, np.flatnonzero((twins.count > 1) & (twins.fresh > 0))
        equal = Chunk(doubled, doubled, np.ones(len(doubled)))
        there = (twins.count[self.pairs.i] > 0) & (twins.count[self.pairs.j] > 0)
        distinct = _taken(self.pairs, there)
        for some in (distinct, equal):
            for chunk in twins.expand(some, _CHUNK):
                if len(keys) > _MOST_PAIRS:
                    left_out += len(chunk.i)
                    continue
                keys = np.union1d(keys, _keys(classes[chunk.i], classes[chunk.j], count))
        return np.stack((keys // count, keys % count), axis=1), left_out

    def _one_of_each(self, classes: Rows) -> Twins:
        """Return the twins with one row of each class among equal vectors."""
        rows = np.flatnonzero((classes >= 0) & (self.exact.squares > 0))
        # A new row before the old ones of its class.
        order = rows[np.lexsort((rows, ~self.new[rows], classes[rows], self.twins.first[rows]))]
        first = self.twins.first[order]
        starts = np.ones(len(order), dtype=bool)
        starts[1:] = (first[1:] != first[:-1]) | (classes[order][1:] != classes[order][:-1])
        kept = order[starts]
        first = self.twins.first[kept]
        kept = kept[np.lexsort((~self.new[kept], first))]
        n = len(self.new)
        counted = np.bincount(self.twins.first[kept], minlength=n)
        fresh = np.bincount(self.twins.first[kept][self.new[kept]], minlength=n)
        return replace(
            self.twins, members=kept, begin=np.cumsum(counted) - counted, count=counted, fresh=fresh
        )


def nearest(pairs: NDArray[np.int64], cosines: Floats) -> Mask:
    """Say which of (m, 2) pairs are read: all, or of too many those that are nearest to either."""
    if len(pairs) <= _MOST_READ:
        return np.ones(len(pairs), dtype=bool)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -cosines))
    seen = np.zeros(int(pairs.max()) + 1, dtype=np.int64)
    kept = np.zeros(len(pairs), dtype=bool)
    room = _MOST_READ
    for at in order.tolist():
        a, b = pairs[at]
        if room and seen[a] < _MOST_NEIGHBOURS and seen[b] < _MOST_NEIGHBOURS:
            seen[a] += 1
            seen[b] += 1
            room -= 1
            kept[at] = True
    return kept


def _keys(a: Rows, b: Rows, count: int) -> NDArray[np.int64]:
    other = a != b
    a, b = a[other], b[other]
    keys: NDArray[np.int64] = np.unique(np.minimum(a, b) * count + np.maximum(a, b))
    return keys


def _bounded(chunks: Iterator[Chunk]) -> tuple[Chunk, int]:
    kept: list[Chunk] = []
    size, left_out = 0, 0
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk.i)
        if size > 2 * _MOST_PAIRS:
            best = _strongest(_joined(kept))
            left_out += size - len(best.i)
            kept, size = [best], len(best.i)
    return _joined(kept), left_out


def _strongest(chunk: Chunk) -> Chunk:
    order = np.lexsort((chunk.j, chunk.i, -chunk.cosines))[:_MOST_PAIRS]
    return _taken(chunk, order)


def _joined(chunks: list[Chunk]) -> Chunk:
    if not chunks:
        nothing = np.empty(0, dtype=np.int64)
        return Chunk(nothing, nothing, np.empty(0))
    return Chunk(
        np.concatenate([chunk.i for chunk in chunks]),
        np.concatenate([chunk.j for chunk in chunks]),
        np.concatenate([chunk.cosines for chunk in chunks]),
    )


def _taken(chunk: Chunk, which: Rows | Mask) -> Chunk:
    return Chunk(chunk.i[which], chunk.j[which], chunk.cosines[which])
