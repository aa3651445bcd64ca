"""Equal vectors stand for one another: found once, and multiplied out only where pairs are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram.domain.pairs.exact import Floats, Rows, Vectors

Mask = NDArray[np.bool_]


class Chunk(NamedTuple):
    """Some pairs: rows ``i < j`` and the cosine of each."""

    i: Rows
    j: Rows
    cosines: Floats


class _Boxes(NamedTuple):
    """Products of two runs of ``members``, every element of which is a pair."""

    left: Rows
    left_count: Rows
    right: Rows
    right_count: Rows
    pair: Rows


@dataclass(frozen=True, slots=True)
class Twins:
    """Which rows hold the same bytes.

    Attributes:
        first: (n,) for each row the first row that is equal to it, mostly itself.
        members: (n,) all rows, those with the same first one after another, new ones leading.
        begin, count: (n,) where the rows equal to a first begin in ``members``, and how many.
        fresh: (n,) how many of them are new.
    """

    first: Rows
    members: Rows
    begin: Rows
    count: Rows
    fresh: Rows

    @classmethod
    def of(cls, vectors: Vectors, new: Mask | None = None) -> Twins:
        """Compare all rows of an (n, d) array; all are new by default."""
        first = _first_equal(vectors)
        count = np.bincount(first, minlength=len(first))
        if new is None:
            members, fresh = np.argsort(first, kind="stable"), count
        else:
            members = np.lexsort((~new, first))
            fresh = np.bincount(first[new], minlength=len(first))
        return cls(first, members, np.cumsum(count) - count, count, fresh)

    def groups(self) -> Iterator[Rows]:
        """Yield the rows of every group of two or more equal vectors."""
        for row in np.flatnonzero(self.count > 1):
            yield self.members[self.begin[row] : self.begin[row] + self.count[row]]

    def expand(self, pairs: Chunk, chunk_pairs: int) -> Iterator[Chunk]:
        """Yield the pairs of rows for pairs of firsts, at most ``chunk_pairs`` a chunk.

        A pair (i, i) stands for all pairs among the rows equal to i. Pairs of two rows that are not
        new are left out.
        """
        boxes = self._boxes(pairs)
        ends = np.cumsum(boxes.left_count * boxes.right_count)
        total = int(ends[-1]) if len(ends) else 0
        for start in range(0, total, chunk_pairs):
            numbers = np.arange(start, min(start + chunk_pairs, total))
            chunk = self._numbered(pairs, boxes, ends, numbers)
            if len(chunk.i):
                yield chunk

    def _boxes(self, pairs: Chunk) -> _Boxes:
        """Cut each pair in two: new ones of i with all of j, old ones of i with new ones of j."""
        i, j, numbers = pairs.i, pairs.j, np.arange(len(pairs.i))
        old = np.where(i == j, 0, self.count[i] - self.fresh[i])
        return _Boxes(
            np.concatenate((self.begin[i], self.begin[i] + self.fresh[i])),
            np.concatenate((self.fresh[i], old)),
            np.concatenate((self.begin[j], self.begin[j])),
            np.concatenate((self.count[j], self.fresh[j])),
            np.concatenate((numbers, numbers)),
        )

    def _numbered(self, pairs: Chunk, boxes: _Boxes, ends: Rows, numbers: Rows) -> Chunk:
        box = np.searchsorted(ends, numbers, side="right")
        width = boxes.right_count[box]
        within = numbers - (ends[box] - boxes.left_count[box] * width)
        left, right = within // width, within % width
        pair = boxes.pair[box]
        i, j = pairs.i[pair], pairs.j[pair]
        # Of the rows equal to one another, two new ones would be met twice and each meets itself.
        kept = (i != j) | (left < right)
        a = self.members[boxes.left[box] + left][kept]
        b = self.members[boxes.right[box] + right][kept]
        return Chunk(np.minimum(a, b), np.maximum(a, b), pairs.cosines[pair[kept]])


def _first_equal(vectors: Vectors) -> Rows:
    """Return for each row the first row of the same bytes.

    Rows whose first 8 bytes nobody shares are settled by those; the others by a digest of 16 bytes,
    which would take 2⁶⁴ rows to collide.
    """
    count = len(vectors)
    first = np.arange(count, dtype=np.int64)
    width = 8 // vectors.itemsize
    suspects = first
    if vectors.shape[1] >= width:
        heads = np.ascontiguousarray(vectors[:, :width]).view(np.uint64).ravel()
        _, of, shared = np.unique(heads, return_inverse=True, return_counts=True)
        suspects = np.flatnonzero(shared[of] > 1)
    seen: dict[bytes, int] = {}
    for row in suspects.tolist():
        digest = hashlib.blake2b(vectors[row].tobytes(), digest_size=16).digest()
        first[row] = seen.setdefault(digest, row)
    return first
