"""Vectors that mean nothing and cost next to nothing, to measure everything around them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np

from engram.domain.spaces import SpaceSpec
from engram.embedding.provider import Embedded, Kind, Limits, accept, nothing


class NullProvider:
    """A vector is the SHAKE-128 stream of its text: distinct, repeatable, and without sense.

    For benches only: it takes about 5 µs a text at 1,024 dimensions.
    """

    limits = Limits(max_inputs=1000, max_tokens=1_000_000)

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Expand texts to (n, d) unit vectors; queries and documents alike."""
        del kind
        if not texts:
            return nothing(self.spec)
        size = self.spec.dimensions
        stream = b"".join(
            shake_128(text.encode("utf-8", "surrogatepass")).digest(size) for text in texts
        )
        # Odd numbers only, so that no vector can be zero whatever the dimensions.
        numbers = np.frombuffer(stream, dtype=np.int8).reshape(len(texts), size) | np.int8(1)
        return accept(numbers, self.spec, len(texts))

    async def close(self) -> None:
        """Nothing to release."""
