"""What tiles are made of: float32 rows whose products tell which pairs may reach the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from engram.domain.pairs.exact import Exact, Rows
from engram.domain.pairs.sketch import Basis, Matrix

# Rows for one place to start a cluster of neighbours from, and how many places at most.
_ROWS_A_PIVOT: Final = 256
_MAX_PIVOTS: Final = 512
_CHUNK_ROWS: Final = 2048


class Filter(Protocol):
    """Rows at positions 0 to n - 1; a pair below ``floor`` is no pair.

    Attributes:
        order: the row that stands at each position.
        floor: the least float32 product of a pair that reaches the threshold.
    """

    @property
    def order(self) -> Rows: ...  # noqa: D102 - see the class
    @property
    def floor(self) -> np.float32: ...  # noqa: D102 - see the class

    def panel(self, start: int, stop: int) -> Matrix:
        """Return the float32 rows at these positions."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The vectors themselves, scaled to length 1 as they are read: plain GEMM."""

    exact: Exact
    order: Rows
    floor: np.float32

    @classmethod
    def of(cls, exact: Exact, order: Rows, threshold: float) -> Whole:
        """Allow for float32: each factor is rounded three times, their sum d times."""
        slack = (exact.vectors.shape[1] + 9) * 2.0**-24
        return cls(exact, order, floor_of(threshold - slack))

    def panel(self, start: int, stop: int) -> Matrix:
        """Convert these rows."""
        return self.rows(self.order[start:stop])

    def rows(self, rows: Rows) -> Matrix:
        """Return the (n, d) unit rows of any rows."""
        scale = (1.0 / np.sqrt(self.exact.squares[rows])).astype(np.float32)
        units = self.exact.vectors[rows].astype(np.float32)
        units *= scale[:, None]
        return units


@dataclass(frozen=True, slots=True)
class Sketched:
    """The sketches of all rows, in their order."""

    sketches: Matrix
    order: Rows
    floor: np.float32

    @classmethod
    def of(cls, exact: Exact, basis: Basis, parts: tuple[Rows, Rows], threshold: float) -> Sketched:
        """Sketch the rows of both parts, and bring neighbours together within each part."""
        sketched = [_gathered(basis.sketch(exact, rows), rows) for rows in parts]
        return cls(
            np.concatenate([sketches for sketches, _ in sketched]),
            np.concatenate([rows for _, rows in sketched]),
            floor_of(threshold - basis.slack),
        )

    def panel(self, start: int, stop: int) -> Matrix:
        """Return a view."""
        return self.sketches[start:stop]


def floor_of(bound: float) -> np.float32:
    """Return a float32 that is not above ``bound``."""
    below: np.float32 = np.nextafter(np.float32(bound), np.float32(-np.inf))
    return below


def _gathered(sketches: Matrix, rows: Rows) -> tuple[Matrix, Rows]:
    """Sort by the nearest of some evenly spread rows.

    Pairs then lie in few tiles, close together; what is found does not depend on it.
    """
    pivots = min(len(rows) // _ROWS_A_PIVOT, _MAX_PIVOTS)
    if pivots < 2:
        return sketches, rows
    places = sketches[np.linspace(0, len(rows) - 1, pivots).astype(np.int64)]
    nearest = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        nearest[part] = (sketches[part] @ places.T).argmax(axis=1)
    sorted_by_place = np.argsort(nearest, kind="stable")
    return sketches[sorted_by_place], rows[sorted_by_place]
