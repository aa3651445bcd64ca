"""How fast a provider may be called: quotas, the level they fill, and what a 429 does to it.

The level is a bucket. Over any window it grants at most ``burst + rate * length``, and what is
granted is sent within ``grant_s``, so the quota of a window holds if
``burst + rate * (window_s + grant_s) <= limit``; that equation gives the rate. ``engram.storage``
does the same arithmetic in SQL for all replicas at once; a test proves the two equal.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Final

from engram.domain.retry import MAX_RETRY_AFTER_S

GRANT_S: Final = 0.5
MIN_SHARE: Final = 0.05
# Halved by a 429, the full rate is back after 50 seconds without another one.
RECOVERY_PER_S: Final = 0.01
# Calls in flight together are refused together: that is one refusal.
CUT_EVERY_S: Final = 1.0
# Of the burst, left to queries: a search never waits behind documents.
QUERY_SHARE: Final = 0.2
# Of the burst, the most that a grant may wait for.
BRIM: Final = 0.95
# Of the rate, left to documents: a storm of searches never stops embedding.
DOCUMENT_FLOOR: Final = 0.1
# A document call that was owed and has not asked again for so long has given up.
OWED_FOR_S: Final = 2.0
_BURST: Final = 0.015
# A text may have 32,000 tokens, and must fit into a burst where the quota has room for it.
_MIN_BURST_TOKENS: Final = 40_000
_UNLIMITED: Final = 1_000_000_000

# Tokens per minute of tier 1; source: docs.voyageai.com/docs/rate-limits. Others: the least.
_VOYAGE_TPM: Final = {
    "voyage-4-lite": 16_000_000,
    "voyage-3.5-lite": 16_000_000,
    "voyage-4": 8_000_000,
    "voyage-3.5": 8_000_000,
}
_VOYAGE_LEAST_TPM: Final = 3_000_000
_VOYAGE_RPM: Final = 2_000
_LOCAL: Final = frozenset({"minilm", "hashing", "null"})


@dataclass(frozen=True, slots=True)
class Quota:
    """What a provider allows in any window.

    Attributes:
        requests: calls in a window, at least 3: below that a bucket cannot keep the promise.
        tokens: tokens in a window.
        window_s: its length; providers say minutes.
        grant_s: how long a grant may wait before it is sent.
    """

    requests: int
    tokens: int
    window_s: float = 60.0
    grant_s: float = GRANT_S

    @property
    def burst_tokens(self) -> float:
        """Most tokens that may be granted at once."""
        return max(self.tokens * _BURST, min(self.tokens / 2, _MIN_BURST_TOKENS))

    @property
    def burst_requests(self) -> float:
        """Most calls that may be granted at once."""
        return max(self.requests * _BURST, min(self.requests / 2, 2.0), 1.0)

    @property
    def tokens_per_s(self) -> float:
        """Rate at which tokens come back."""
        return (self.tokens - self.burst_tokens) / (self.window_s + self.grant_s)

    @property
    def requests_per_s(self) -> float:
        """Rate at which calls come back."""
        return (self.requests - self.burst_requests) / (self.window_s + self.grant_s)

    @property
    def max_call_tokens(self) -> int:
        """Most tokens to pack into one call: with two to a burst, none of the refill is lost."""
        return max(1, int(self.burst_tokens / 2))

    def reserve(self, *, query: bool) -> tuple[float, float]:
        """Tokens and calls that must be left after a grant; queries may take the last."""
        if query:
            return 0.0, 0.0
        # A single call's worth cannot be shared: it is whoever's comes first.
        calls = QUERY_SHARE * self.burst_requests
        return QUERY_SHARE * self.burst_tokens, min(calls, self.burst_requests - 1)

    def cost(self, tokens: int, *, query: bool = False) -> float:
        """What a call of so many tokens is charged before it is made.

        A text larger than a burst could never be sent; what it has too many is a debt afterwards.
        Nor could one that needs a bucket full to the brim, while small calls go on taking from it.
        """
        reserved, _ = self.reserve(query=query)
        return min(float(max(tokens, 1)), BRIM * self.burst_tokens - reserved)


@dataclass(frozen=True, slots=True)
class Level:
    """What is left of a quota. A new one is empty: waiting is safe, spending twice is not.

    Attributes:
        tokens: may be negative: a debt.
        requests: calls.
        share: part of the rate in use, ``MIN_SHARE`` to 1.
        at: when the level was this, in seconds of the one clock that all use.
        cut_at: of the last halving.
        closed_until: nothing is granted before.
        document_at: of the last grant to documents.
        owed_at: when a document call last asked in vain that was owed its turn.
        owed_tokens: what that call costs.
    """

    tokens: float = 0.0
    requests: float = 0.0
    share: float = 1.0
    at: float = 0.0
    cut_at: float = -math.inf
    closed_until: float = -math.inf
    document_at: float = -math.inf
    owed_at: float = -math.inf
    owed_tokens: float = 0.0


def quota_of(
    provider: str, model: str, *, tier: int = 1, rpm: int | None = None, tpm: int | None = None
) -> Quota | None:
    """Return the quota of a model, None where nothing is limited.

    Args:
        provider: as in a space.
        model: as in a space.
        tier: Voyage's usage tier, 1 to 3; 2 and 3 allow twice and three times as much.
        rpm: requests per minute; None is the documented preset.
        tpm: tokens per minute; likewise.
    """
    if provider in _LOCAL:
        return None
    if provider == "voyage":
        rpm = rpm or _VOYAGE_RPM * tier
        tpm = tpm or _VOYAGE_TPM.get(model, _VOYAGE_LEAST_TPM) * tier
    if rpm is None and tpm is None:
        return None
    return Quota(rpm or _UNLIMITED, tpm or _UNLIMITED * 1000)


def fingerprint(key: str | None) -> str:
    """Return 16 hexadecimal digits that tell keys apart and give none away."""
    return hashlib.sha256((key or "").encode()).hexdigest()[:16]


def refilled(level: Level, quota: Quota, now: float) -> Level:
    """Return the level at ``now``; a clock that stands or goes back adds nothing."""
    elapsed = max(0.0, now - level.at)
    gained = elapsed * level.share
    return replace(
        level,
        tokens=min(quota.burst_tokens, level.tokens + gained * quota.tokens_per_s),
        requests=min(quota.burst_requests, level.requests + gained * quota.requests_per_s),
        share=min(1.0, level.share + elapsed * RECOVERY_PER_S),
        at=max(level.at, now),
    )


def take(
    level: Level, quota: Quota, now: float, tokens: int, *, query: bool = False
) -> tuple[Level, float]:
    """Take one call of so many tokens.

    Documents leave a reserve to queries, so a storm of those takes all there is. Once documents
    have had less than their floor of the rate, it turns round: they need leave nothing, and queries
    leave them what their call costs.

    Returns:
        The new level, and 0.0 when the call may be made now (within ``grant_s``), else the seconds
        after which it is worth asking again.
    """
    filled = refilled(level, quota, now)
    cost = quota.cost(tokens, query=query)
    keep_tokens, keep_requests = quota.reserve(query=query)
    owed = not query and _is_owed(filled, quota, now, cost)
    if owed:
        keep_tokens, keep_requests = 0.0, 0.0
    elif query and now - filled.owed_at < OWED_FOR_S:
        # Never more than a full burst can leave.
        keep_tokens = min(filled.owed_tokens, quota.burst_tokens - cost)
        keep_requests = min(1.0, quota.burst_requests - 1)
    lack_tokens = max(0.0, cost + keep_tokens - filled.tokens) / quota.tokens_per_s
    lack_requests = max(0.0, 1.0 + keep_requests - filled.requests) / quota.requests_per_s
    wait_s = max(filled.closed_until - now, max(lack_tokens, lack_requests) / filled.share, 0.0)
    if wait_s > 0:
        return (replace(filled, owed_at=now, owed_tokens=cost) if owed else filled), wait_s
    taken = replace(filled, tokens=filled.tokens - cost, requests=filled.requests - 1)
    return (taken if query else replace(taken, document_at=now, owed_at=-math.inf)), 0.0


def _is_owed(level: Level, quota: Quota, now: float, cost: float) -> bool:
    """Whether documents have had so little that a call of this cost is within their floor."""
    seconds = max(cost / quota.tokens_per_s, 1.0 / quota.requests_per_s)
    return now - level.document_at >= seconds / (DOCUMENT_FLOOR * level.share)


def correct(level: Level, quota: Quota, tokens: float) -> Level:
    """Settle what a call really cost.

    Args:
        level: to be changed.
        quota: whose burst is never exceeded.
        tokens: counted less charged. Positive becomes a debt. Negative is credited, and only
            right within ``grant_s`` of the grant: later the window has moved on.
    """
    return replace(level, tokens=min(quota.burst_tokens, level.tokens - tokens))


def cut(level: Level, quota: Quota, now: float, retry_after_s: float | None) -> Level:
    """Halve the rate after a 429 and wait at least as long as the provider says."""
    filled = refilled(level, quota, now)
    fresh = now - filled.cut_at >= CUT_EVERY_S
    asked = retry_after_s if retry_after_s is not None and retry_after_s > 0 else 0.0
    return replace(
        filled,
        tokens=min(0.0, filled.tokens),
        requests=min(0.0, filled.requests),
        share=max(MIN_SHARE, filled.share / 2) if fresh else filled.share,
        cut_at=now if fresh else filled.cut_at,
        closed_until=max(filled.closed_until, now + min(asked, MAX_RETRY_AFTER_S)),
    )
