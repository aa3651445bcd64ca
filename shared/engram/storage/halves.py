"""Vectors on their way to Postgres: the binary form of pgvector's halfvec."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

# Number of dimensions and a zero come before the numbers (halfvec_recv in pgvector's halfvec.c).
_HEAD = 2


def to_wire(vectors: NDArray[np.floating[Any]]) -> list[bytes]:
    """Return each row of an (n, d) array as a halfvec: big-endian, 2 d + 4 bytes.

    All rows at once: one `HalfVector` after another took a tenth of the embedder.
    """
    count, dimensions = vectors.shape
    words = np.empty((count, _HEAD + dimensions), dtype=">u2")
    words[:, :_HEAD] = dimensions, 0
    words[:, _HEAD:] = np.ascontiguousarray(vectors, dtype=np.float16).view(np.uint16)
    wire, size = words.tobytes(), words.itemsize * words.shape[1]
    return [wire[start : start + size] for start in range(0, len(wire), size)]


def encode(vector: HalfVector | bytes) -> bytes:
    """Return one vector as it is sent; one that `to_wire` made is ready."""
    return vector if isinstance(vector, bytes) else vector.to_binary()
