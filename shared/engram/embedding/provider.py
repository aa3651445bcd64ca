"""The port every embedding provider implements, and the one error it may raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engram.domain.retry import ErrorClass
from engram.domain.spaces import SpaceSpec
from engram.domain.vectors import ContractViolation, Matrix, bad_rows, check_shape, normalise

Kind = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may carry.

    Attributes:
        max_inputs: most texts in a call.
        max_tokens: most tokens in a call, over all texts.
        max_tokens_per_text: longest text in tokens; None when any length is taken.
    """

    max_inputs: int
    max_tokens: int
    max_tokens_per_text: int | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one call.

    Attributes:
        vectors: (n, d) float32 in the order of the texts, rows of length 1 where the space is
            normalised. Rows named in ``bad`` are NaN, which no store accepts by mistake.
        total_tokens: tokens the provider counted, None when it counts none.
        bad: row -> reason, for texts whose own vector cannot be stored while its neighbours' can.
    """

    vectors: Matrix
    total_tokens: int | None = None
    bad: Mapping[int, str] = field(default_factory=dict)


class ProviderError(Exception):
    """A call failed. Never carries a text, a key or the provider's own words.

    Attributes:
        error_class: what ``engram.domain.retry.decide`` acts on.
        detail: one sentence, safe to store and to log.
        status: the HTTP status, None when no reply came or there is no HTTP.
        retry_after_s: the provider's Retry-After in seconds, None when it gave none.
        dimensions: length of the vectors that came, when that is what was wrong.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        detail: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        dimensions: int | None = None,
    ) -> None:
        super().__init__(f"{error_class}: {detail}")
        self.error_class: ErrorClass = error_class
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s
        self.dimensions = dimensions


class Provider(Protocol):
    """Turns texts into vectors of one space."""

    @property
    def spec(self) -> SpaceSpec:
        """The space its vectors belong to."""

    @property
    def limits(self) -> Limits:
        """What one call may carry; the caller packs accordingly."""

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Embed texts, exactly one provider call and no retry; no texts make no call.

        Raises:
            ProviderError: nothing of this call can be used. The only error raised.
        """

    async def close(self) -> None:
        """Release connections and processes; calling it again does nothing."""


def accept(
    vectors: NDArray[Any], spec: SpaceSpec, count: int, total_tokens: int | None = None
) -> Embedded:
    """Check a reply whose rows are already in the order of the texts.

    Args:
        vectors: (count, spec.dimensions) numbers.
        spec: the space they must fit.
        count: number of texts asked for.
        total_tokens: what the provider counted.

    Returns:
        The vectors; single bad rows are named in ``bad``.

    Raises:
        ProviderError: class ``contract``: wrong shape, or not one good row.
    """
    try:
        check_shape(vectors, count, spec.dimensions)
    except ContractViolation as error:
        raise ProviderError("contract", f"The reply breaks its contract: {error}.") from error
    bad = bad_rows(vectors)
    if bad and len(bad) == count:
        reasons = ", ".join(sorted(set(bad.values())))
        raise ProviderError("contract", f"No vector of the reply can be stored: {reasons}.")
    matrix = normalise(vectors) if spec.normalised else np.array(vectors, dtype=np.float32)
    matrix[list(bad)] = np.nan
    return Embedded(matrix, total_tokens, bad)


def nothing(spec: SpaceSpec) -> Embedded:
    """The answer to no texts: a (0, d) array and no tokens."""
    return Embedded(np.empty((0, spec.dimensions), dtype=np.float32), 0)
