"""One provider request: equal texts sent once, and single bad vectors told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engram import tracing
from engram.domain.lanes import Lane
from engram.domain.vectors import Matrix
from engram.embedding.provider import Embedded, Provider, ProviderError
from engram.storage.vectors import Text
from engram_embedder.gate import Gate


@dataclass(frozen=True, slots=True)
class Good:
    """Texts with their vectors, (n, d) float32 in the same order."""

    texts: list[Text]
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class Bad:
    """Texts of one request that got no vector, and why."""

    texts: list[Text]
    error: ProviderError


async def embed(
    gate: Gate, provider: Provider, texts: Sequence[Text], lane: Lane
) -> tuple[Good | None, list[Bad]]:
    """Ask the provider once for these texts.

    Args:
        gate: of the provider and model.
        provider: of the space.
        texts: within the provider's limits; equal ones are sent once.
        lane: whose turn it must be.
    """
    contents = list(dict.fromkeys(text.content for text in texts))
    try:
        with tracing.span("provider", model=provider.spec.model, texts=len(contents)):
            embedded = await gate.embed(provider, contents, lane)
    except ProviderError as error:
        return None, [Bad(list(texts), error)]
    return _split(texts, contents, embedded)


def _split(
    texts: Sequence[Text], contents: list[str], embedded: Embedded
) -> tuple[Good | None, list[Bad]]:
    row_of = {content: row for row, content in enumerate(contents)}
    good = [text for text in texts if row_of[text.content] not in embedded.bad]
    bad = [
        Bad([text], ProviderError("contract", embedded.bad[row_of[text.content]]))
        for text in texts
        if row_of[text.content] in embedded.bad
    ]
    if not good:
        return None, bad
    rows = np.fromiter((row_of[text.content] for text in good), dtype=np.intp, count=len(good))
    return Good(good, embedded.vectors[rows]), bad
