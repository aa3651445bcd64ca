"""Cosines of pairs of texts, from vectors as they would be stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.batching import estimate_tokens, pack
from engram.embedding.provider import Provider, ProviderError

_MOST_WAIT_S: Final = 20.0


async def cosines_of(
    provider: Provider, pairs: Sequence[tuple[str, str]], patience_s: float = 0.0
) -> list[float]:
    """Return the cosine of each pair, NaN where a text cannot be embedded; no retry of an error.

    Args:
        provider: of the space; its limits cut the texts into calls.
        pairs: each text is embedded once, however often it occurs.
        patience_s: in all, for calls that a rate limit refuses.

    Raises:
        ProviderError: a call failed.
    """
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    limits, ends_at = provider.limits, time.monotonic() + patience_s
    calls = pack(texts, [estimate_tokens(t) for t in texts], limits.max_inputs, limits.max_tokens)
    vectors: list[NDArray[np.float32]] = []
    for call in calls:
        vectors.extend(await _embedded(provider, [texts[at] for at in call], ends_at))
    row_of = {text: row for row, text in enumerate(texts)}
    # Halves, as in the store: what is compared here is what the sweep would see.
    stored = np.asarray(vectors, dtype=np.float16).astype(np.float64)
    a = stored[[row_of[one] for one, _ in pairs]]
    b = stored[[row_of[other] for _, other in pairs]]
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return [float(x) for x in np.clip(np.einsum("ij,ij->i", a, b) / lengths, -1.0, 1.0)]


async def _embedded(
    provider: Provider, texts: Sequence[str], ends_at: float
) -> Sequence[NDArray[np.float32]]:
    """Make one call; while a rate limit refuses it and there is time, wait as long as it says."""
    while True:
        try:
            return list((await provider.embed(texts, "document")).vectors)
        except ProviderError as error:
            wait_s = min(max(error.retry_after_s or 1.0, 0.1), _MOST_WAIT_S)
            if error.error_class != "rate_limited" or time.monotonic() + wait_s > ends_at:
                raise
        await asyncio.sleep(wait_s)
