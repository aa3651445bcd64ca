"""Which vectors may be stored: count, length, finiteness, norm and the range of float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

MIN_NORM: Final = 1e-6
FLOAT16_MAX: Final = 65504.0
# Half of float16's smallest subnormal: this and everything below rounds to zero (IEEE 754).
_FLOAT16_VANISHES: Final = 2.0**-25


class ContractViolation(ValueError):  # noqa: N818 - a name of the project's glossary of errors
    """A provider's vectors break their contract.

    Attributes:
        reasons: what is wrong, one sentence each, without content.
        rows: bad row -> reason; empty when the shape is wrong, and then no row can be trusted.
    """

    def __init__(self, reasons: tuple[str, ...], rows: Mapping[int, str] | None = None) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons
        self.rows = dict(rows or {})


def bad_rows(vectors: NDArray[Any]) -> dict[int, str]:
    """Rows of an (n, d) array that must not be stored, with the reason.

    Reasons: ``not finite``, ``overflows float16``, ``zero norm``, ``vanishes in float16``.
    """
    matrix = _as_float32(vectors)
    if matrix.size == 0:
        return dict.fromkeys(range(len(matrix)), "zero norm")
    # Two passes instead of abs(): no temporary the size of the matrix.
    largest = np.maximum(matrix.max(axis=1), -matrix.min(axis=1))
    norms = _norms(matrix)
    # A NaN makes every comparison false, so the good rows are the ones that pass, not that fail.
    good = (largest <= FLOAT16_MAX) & (norms > MIN_NORM) & (largest > _FLOAT16_VANISHES)
    return {int(row): _reason(largest[row], norms[row]) for row in np.flatnonzero(~good)}


def check_shape(vectors: NDArray[Any], expected_count: int, dimensions: int) -> None:
    """Refuse an array that is not (expected_count, dimensions).

    Raises:
        ContractViolation: with no rows, because no row can be told to belong to its text.
    """
    if vectors.ndim != 2:
        raise ContractViolation((f"expected a matrix, got {vectors.ndim} dimensions",))
    reasons = []
    if vectors.shape[0] != expected_count:
        reasons.append(f"expected {expected_count} vectors, got {vectors.shape[0]}")
    if vectors.shape[1] != dimensions:
        reasons.append(f"expected {dimensions} dimensions, got {vectors.shape[1]}")
    if reasons:
        raise ContractViolation(tuple(reasons))


def normalise(vectors: NDArray[Any]) -> Matrix:
    """Scale each row of an (n, d) array to length 1 (to about 1e-6), into a new float32 array.

    Rows whose norm is 0 or not finite stay as they are.
    """
    matrix = _as_float32(vectors)
    norms = _norms(matrix)
    norms[~(np.isfinite(norms) & (norms > 0))] = 1.0
    scaled: Matrix = matrix / norms[:, None]
    return scaled


def validate(
    vectors: NDArray[Any], expected_count: int, dimensions: int, *, normalised: bool = True
) -> Matrix:
    """Check a whole reply, and bring it to the form in which it is stored.

    Args:
        vectors: (n, d) numbers in the order of the texts.
        expected_count: number of texts, n.
        dimensions: the space's dimensions, d.
        normalised: scale every row to length 1.

    Returns:
        The (n, d) float32 array.

    Raises:
        ContractViolation: wrong shape, or any row that ``bad_rows`` names.
    """
    check_shape(vectors, expected_count, dimensions)
    rows = bad_rows(vectors)
    if rows:
        raise ContractViolation(tuple(f"row {row}: {why}" for row, why in rows.items()), rows)
    return normalise(vectors) if normalised else _as_float32(vectors)


def _as_float32(vectors: NDArray[Any]) -> Matrix:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _norms(matrix: Matrix) -> Matrix:
    with np.errstate(over="ignore", invalid="ignore"):
        squares: Matrix = np.einsum("ij,ij->i", matrix, matrix)
        return np.sqrt(squares)


def _reason(largest: np.float32, norm: np.float32) -> str:
    if not np.isfinite(largest):
        return "not finite"
    if largest > FLOAT16_MAX:
        return "overflows float16"
    return "zero norm" if not norm > MIN_NORM else "vanishes in float16"
