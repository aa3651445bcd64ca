"""Vectors for ``engram bench dedup``: like those of texts, or like nothing at all."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engram.domain.vectors import Matrix, normalise

Halves = NDArray[np.float16]
Kind = Literal["texts", "isotropic", "copies"]

DIMENSIONS: Final = 1_024
_TOPICS: Final = 400
# Of a text's squared length that is its topic's: two texts about one topic have this cosine.
_TOPIC_SHARE: Final = 0.4
_REWRITTEN: Final = 0.05
_REWRITTEN_COSINES: Final = (0.8, 0.995)
_COPIED: Final = 0.005
_ROUNDING: Final = 1e-4
_STEP: Final = 4_096


def vectors(kind: Kind, count: int, seed: int = 1) -> Halves:
    """Return (count, 1024) unit vectors as they are stored, the same in every run.

    ``texts``: 400 topics, the first of them common and the last rare, in directions whose weight
    falls as 1 / (rank + 8). A sketch of an eighth of the numbers then holds 0.58 of the squared
    length; of the vectors that the local model makes of 1,040 short texts, it holds 0.57. One in
    20 is a rewriting of an earlier one, at a cosine of 0.8 to 0.995, and one in 200 its copy.

    ``isotropic``: all directions alike, which no sketch can shorten. No model makes such vectors.

    ``copies``: one vector, the second half of them with the small differences that a model's
    rounding makes when it embeds a text beside others.
    """
    rng = np.random.default_rng(seed)
    if kind == "texts":
        return _Texts(rng).many(count)
    if kind == "isotropic":
        parts = [_noise(rng, min(_STEP, count - start)) for start in range(0, count, _STEP)]
        return np.concatenate([normalise(part).astype(np.float16) for part in parts])
    rows = np.repeat(normalise(_noise(rng, 1)), count, axis=0)
    rows[count // 2 :] += np.float32(_ROUNDING) * _noise(rng, count - count // 2)
    return normalise(rows).astype(np.float16)


def _noise(rng: np.random.Generator, count: int) -> Matrix:
    return rng.standard_normal((count, DIMENSIONS), dtype=np.float32)


class _Texts:
    """Draws vectors from one space."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        weights = 1 / (np.arange(DIMENSIONS) + 8.0)
        axes, _ = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))
        scaled = np.sqrt(weights / weights.sum())[:, None] * axes
        self._axes: Matrix = scaled.astype(np.float32)
        self._topics = self._drawn(_TOPICS)
        common = 1 / (np.arange(_TOPICS) + 5.0)
        self._common = common / common.sum()

    def many(self, count: int) -> Halves:
        """Draw all, a few thousand at a time."""
        found = np.empty((count, DIMENSIONS), dtype=np.float16)
        for start in range(0, count, _STEP):
            size = min(_STEP, count - start)
            found[start : start + size] = self._fresh(size)
            if start:
                self._repeat(found, start, size)
        return found

    def _drawn(self, count: int) -> Matrix:
        return normalise(_noise(self._rng, count) @ self._axes)

    def _fresh(self, count: int) -> Matrix:
        topics = self._topics[self._rng.choice(_TOPICS, count, p=self._common)]
        own = np.float32(np.sqrt(1 - _TOPIC_SHARE)) * self._drawn(count)
        return normalise(np.float32(np.sqrt(_TOPIC_SHARE)) * topics + own)

    def _repeat(self, found: Halves, start: int, size: int) -> None:
        """Overwrite some of the newest with rewritings and copies of earlier ones."""
        rewritten, copied = int(size * _REWRITTEN), int(size * _COPIED)
        sources = found[self._rng.integers(0, start, rewritten)].astype(np.float32)
        cosines = self._rng.uniform(*_REWRITTEN_COSINES, rewritten).astype(np.float32)[:, None]
        away = self._drawn(rewritten)
        away -= np.einsum("ij,ij->i", away, sources)[:, None] * sources
        rows = cosines * sources + np.sqrt(1 - cosines**2) * normalise(away)
        found[start : start + rewritten] = normalise(rows)
        copies = found[self._rng.integers(0, start, copied)]
        found[start + rewritten : start + rewritten + copied] = copies
