"""Vectors in clusters around the null vectors of known queries, and their true order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.vectors import Matrix, normalise
from engram_cli.bench.workload import vectors_of

CLUSTERS: Final = 200
# Of the noise's length to the centre's: two members of a cluster then have a cosine of about 0.74,
# as texts about one subject have.
NOISE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Clusters:
    """The centres, and the queries that lie beside the first of them as members do.

    Attributes:
        queries: texts whose null vectors are ``vectors``, row by row.
    """

    queries: list[str]
    vectors: Matrix
    centres: Matrix

    @classmethod
    async def of(cls, queries: int) -> Clusters:
        """Lay the clusters around the null vectors of texts: those a search can be asked for."""
        texts = [f"What do we know about subject {number}?" for number in range(CLUSTERS)]
        vectors = await vectors_of(texts)
        return cls(texts[:queries], vectors[:queries], _beside(vectors, seed=0))

    def members(self, count: int, seed: int) -> Matrix:
        """Return (count, d) unit vectors, each a member of a random cluster."""
        chosen = np.random.default_rng(seed).integers(0, len(self.centres), count)
        return _beside(self.centres[chosen], seed + 1)


def _beside(around: Matrix, seed: int) -> Matrix:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(around.shape, dtype=np.float32)
    return normalise(around + noise * np.float32(NOISE / np.sqrt(around.shape[1])))


def nearest(queries: Matrix, stored: Matrix, count: int) -> list[set[int]]:
    """Return the rows of the ``count`` stored vectors nearest to each query, by an exact scan.

    Both are taken as the halves that the database compares.
    """
    left, right = (normalise(_halves(matrix)) for matrix in (queries, stored))
    best = np.argsort(-(left @ right.T), axis=1, kind="stable")[:, :count]
    return [set(map(int, rows)) for rows in best]


def recall(found: Sequence[set[int]], true: Sequence[set[int]]) -> float:
    """Return the mean share of the true rows that were found."""
    pairs = zip(found, true, strict=True)
    return float(np.mean([len(mine & theirs) / len(theirs) for mine, theirs in pairs]))


def _halves(matrix: Matrix) -> NDArray[np.float32]:
    return matrix.astype(np.float16).astype(np.float32)
