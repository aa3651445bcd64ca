"""Asking a provider what it really makes, before anything is stored with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from engram.domain.spaces import SpaceSpec
from engram.domain.vectors import Matrix
from engram.embedding.provider import Provider, ProviderError
from engram.errors import UsageError

# Plain, short and harmless: a provider that refuses this refuses everybody, not a text.
KNOWN_GOOD: Final = "The user prefers tea over coffee."
OTHER: Final = "Standup is on Tuesday at ten."
# Two calls of one model differ by rounding, below this; two models differ by far more.
_SAME: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Probe:
    """What a provider made of known texts.

    Attributes:
        dimensions: length of its vectors.
        deterministic: the same text twice gave the same vector, to 1e-5.
        normalised: vectors come out with length 1, to 1e-3.
    """

    dimensions: int
    deterministic: bool
    normalised: bool


async def probe(provider: Provider) -> Probe:
    """Embed a known-good text twice and another one once, in two calls.

    Returns:
        What was seen; a provider that is not deterministic is reported, not refused.

    Raises:
        UsageError: vectors of another length than the space's, or equal ones for unequal texts.
        ProviderError: the provider cannot be asked at all.
    """
    first = await _embed(provider, [KNOWN_GOOD, OTHER])
    again = await _embed(provider, [KNOWN_GOOD])
    _refuse_other_length(provider.spec, first.shape[1])
    if np.abs(first[0] - first[1]).max() <= _SAME:
        raise UsageError(
            "degenerate_model",
            f"{provider.spec.key} gives two different texts the same vector.",
            cure="Check the model behind the provider's URL.",
        )
    deterministic = bool(np.abs(first[0] - again[0]).max() <= _SAME)
    normalised = bool(np.abs(np.linalg.norm(first, axis=1) - 1).max() <= 1e-3)
    return Probe(first.shape[1], deterministic, normalised)


async def _embed(provider: Provider, texts: list[str]) -> Matrix:
    try:
        embedded = await provider.embed(texts, "document")
    except ProviderError as error:
        if error.dimensions is not None:
            _refuse_other_length(provider.spec, error.dimensions)
        raise
    if embedded.bad:
        raise ProviderError("contract", "A known-good text got a vector that cannot be stored.")
    return embedded.vectors


def _refuse_other_length(spec: SpaceSpec, got: int) -> None:
    if got != spec.dimensions:
        raise UsageError(
            "wrong_dimensions",
            f"{spec.key} expects {spec.dimensions} dimensions, but the model makes {got}.",
            cure=f"Set ENGRAM_EMBEDDING to {spec.provider}:{spec.model}@{got}.",
        )
