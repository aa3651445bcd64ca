"""Asks a provider for the vectors of many texts, within its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engram.domain.batching import estimate_tokens, pack
from engram.domain.vectors import Matrix
from engram.embedding.provider import Kind, ProviderError
from engram.errors import UnavailableError
from engram.serving.spending import Spending

_MOST: Final = 128


async def embed_all(provider: Spending, texts: Sequence[str], kind: Kind) -> list[Matrix | None]:
    """Return the vector of each text, (d,) numbers; None where the provider gave none that counts.

    Raises:
        UnavailableError: the provider does not answer.
    """
    found: list[Matrix | None] = [None] * len(texts)
    tokens = [estimate_tokens(text, provider.ratio) for text in texts]
    limits = provider.limits
    for places in pack(list(texts), tokens, min(limits.max_inputs, _MOST), limits.max_tokens):
        try:
            embedded = await provider.embed([texts[place] for place in places], kind)
        except ProviderError as error:
            raise UnavailableError(
                "provider_unavailable",
                f"The provider does not answer ({error.error_class}).",
                cure="It is tried again by itself; see its key, plan and status.",
                retry_after_s=error.retry_after_s or 5,
            ) from error
        for row, place in enumerate(places):
            found[place] = None if row in embedded.bad else embedded.vectors[row]
    return found
