"""Floats in float64 of the vectors as they are stored: the only thing that decides about a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[Any]
"""(n, d) float16, float32 or float64 rows; float16 is what pgvector's ``halfvec`` holds."""

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

# Rows that are turned into float64 at a time, in one place of half a megabyte (1,024 numbers):
# fresh memory for each costs five times what converting does.
_CHUNK_ROWS: Final = 64
# Pairs multiplied at a time; both sides of 1,024 numbers fit a core's own cache.
_CHUNK_PAIRS: Final = 64
# Above this share of true pairs one product of all rows and columns is cheaper than pair by pair:
# about 1.5 µs a pair against 44 ns an element (1,024 numbers, one core).
_DENSE_SHARE: Final = 1 / 30
_TIE: Final = 1e-12
# Lengths between 1e-30 and 1e30 can be scaled to 1 in float32.
_LEAST_SQUARE: Final = 1e-60


@dataclass(frozen=True, slots=True)
class Exact:
    """Vectors with their squared lengths.

    The cosine of x and y is x·y / sqrt(|x|²|y|²), cut to [-1, 1]. For float16 rows of length 1
    every product is a multiple of 2⁻⁴⁸ and every partial sum is below 2⁵, so x·y is exact in
    float64 whatever the order of summation: all ways of computing it agree to the last bit.

    Attributes:
        squares: (n,) float64, |x|²; 0 for rows that have no direction: zero or not finite, or
            lengths outside 1e-30 to 1e30.
    """

    vectors: Vectors
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Vectors) -> Exact:
        """Measure all rows, in bounded memory."""
        squares = np.empty(len(vectors))
        room = np.empty((min(_CHUNK_ROWS, len(vectors)), vectors.shape[1]))
        for start in range(0, len(vectors), _CHUNK_ROWS):
            part = vectors[start : start + _CHUNK_ROWS]
            np.copyto(room[: len(part)], part)
            squares[start : start + _CHUNK_ROWS] = squares_of(room[: len(part)])
        return cls(vectors, squares)

    def units(self, rows: Rows) -> Floats:
        """Return these rows in float64, scaled to length 1; they must have a direction."""
        units = as_float64(self.vectors[rows])
        units /= np.sqrt(self.squares[rows])[:, None]
        return units

    def keep(self, i: Rows, j: Rows, threshold: float) -> tuple[Rows, Rows, Floats]:
        """Return those of the candidate pairs (i, j) whose cosine is at least ``threshold``.

        Meant for the candidates of one tile: memory grows with the distinct rows in them.
        """
        left, of_left = np.unique(i, return_inverse=True)
        right, of_right = np.unique(j, return_inverse=True)
        a, b = as_float64(self.vectors[left]), as_float64(self.vectors[right])
        if len(i) > len(left) * len(right) * _DENSE_SHARE:
            dots = (a @ b.T)[of_left, of_right]
            cosines = self._divided(dots, i, j)
            # Only vectors that are not halves can differ here, in the last bit.
            ties = np.flatnonzero(np.abs(cosines - threshold) <= _TIE)
            dots[ties] = _dots(a, b, of_left[ties], of_right[ties])
        else:
            dots = _dots(a, b, of_left, of_right)
        cosines = self._divided(dots, i, j)
        kept = cosines >= threshold
        return i[kept], j[kept], cosines[kept]

    def _divided(self, dots: Floats, i: Rows, j: Rows) -> Floats:
        # The square root of a rounded square is exact, so equal vectors have a cosine of just 1.
        lengths = np.sqrt(self.squares[i] * self.squares[j])
        cosines: Floats = np.clip(dots / lengths, -1.0, 1.0)
        return cosines


def as_float64(vectors: Vectors) -> NDArray[np.float64]:
    """Return a float64 copy, in rows that lie one after another."""
    return np.array(vectors, dtype=np.float64, order="C")


def squares_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |x|² of float64 rows, 0 where there is no direction."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows)
    squares[~((squares >= _LEAST_SQUARE) & (squares <= 1 / _LEAST_SQUARE))] = 0.0
    return squares


def _dots(a: Floats, b: Floats, left: Rows, right: Rows) -> Floats:
    dots = np.empty(len(left))
    for start in range(0, len(left), _CHUNK_PAIRS):
        part = slice(start, start + _CHUNK_PAIRS)
        dots[part] = np.einsum("ij,ij->i", a[left[part]], b[right[part]])
    return dots
