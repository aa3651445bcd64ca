"""Lexical vectors without a model: hashed words, word pairs and letter trigrams."""

from __future__ import annotations

import asyncio
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.batching import pack
from engram.domain.spaces import SpaceSpec
from engram.embedding.provider import Embedded, Kind, Limits, accept, nothing

_WORD = re.compile(r"\w+")
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2^64 / golden ratio, made odd
_SLICE_CHARS: Final = 20_000


class HashingProvider:
    """Texts that share words and word parts get similar vectors; meaning is not seen.

    Signed feature hashing after Weinberger et al., "Feature Hashing for Large Scale Multitask
    Learning", 2009. The same on every platform and in every process: CRC-32, never ``hash()``.
    """

    limits = Limits(max_inputs=1000, max_tokens=1_000_000)

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Hash texts into (n, d) unit vectors; queries and documents alike."""
        del kind
        if not texts:
            return nothing(self.spec)
        rows: list[NDArray[np.float64]] = []
        for part in pack(texts, len, self.limits.max_inputs, _SLICE_CHARS):
            rows.extend(hash_text(texts[index], self.spec.dimensions) for index in part)
            await asyncio.sleep(0)  # others on this loop must not wait for a long batch
        return accept(np.asarray(rows), self.spec, len(texts))

    async def close(self) -> None:
        """Nothing to release."""


def hash_text(text: str, dimensions: int) -> NDArray[np.float64]:
    """The vector of one text, length ``dimensions``, not normalised and never zero."""
    features = Counter(_features(text))
    keys = [zlib.crc32(name) for name in features]
    weights = np.sqrt(np.fromiter(features.values(), dtype=np.float64, count=len(features)))
    mixed = np.array(keys, dtype=np.uint64) * _MIX  # wraps modulo 2^64, as intended
    buckets = ((mixed >> np.uint64(32)) % np.uint64(dimensions)).astype(np.int64)
    signs = np.where((mixed >> np.uint64(31)) & np.uint64(1), 1.0, -1.0)
    sums = np.bincount(buckets, weights=weights * signs, minlength=dimensions)
    vector = sums.astype(np.float64)
    if not vector.any():  # every pair of features cancelled out
        vector[zlib.crc32(text.encode("utf-8", "surrogatepass")) % dimensions] = 1.0
    return vector


def _features(text: str) -> Iterator[bytes]:
    words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text.casefold())]
    if not words:  # punctuation or emoji only: the text as a whole
        yield b"t" + text.encode("utf-8", "surrogatepass")
    for word in words:
        yield b"w" + word
        padded = b" " + word + b" "
        for start in range(len(padded) - 2):
            yield b"c" + padded[start : start + 3]
    for first, second in itertools.pairwise(words):
        yield b"p" + first + b" " + second
