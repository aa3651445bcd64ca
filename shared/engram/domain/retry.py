"""What to do after a provider failed: a pure function of the error, the attempt and the time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

ErrorClass = Literal[
    "rate_limited", "auth", "rejected", "server", "timeout", "connection", "contract"
]

MAX_ATTEMPTS: Final = 8
BASE_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 300.0
AUTH_PAUSE_S: Final = 60.0
OUTAGE_PAUSE_S: Final = 5.0
# A provider's clock or a proxy's typing error must not park a memory for a year.
MAX_RETRY_AFTER_S: Final = 3600.0

# Refused whoever asks and whatever the text: the key, the plan, the URL or the model is wrong.
_CONFIGURATION: Final = frozenset({401, 402, 403, 404, 405, 407, 410})


@dataclass(frozen=True, slots=True)
class Defer:
    """Try again at ``until``; no attempt is consumed."""

    until: datetime


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at ``at``; ``attempt`` failures have been counted by then."""

    at: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Split:
    """Halve the batch and try both halves at once, to isolate the text that is refused."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give this text up until a person replays it."""

    reason: str


@dataclass(frozen=True, slots=True)
class PauseLane:
    """Call the provider for nobody until ``until``; no attempt is consumed."""

    until: datetime


Decision = Defer | RetryAt | Split | DeadLetter | PauseLane


def classify_status(status: int) -> ErrorClass:
    """Class of an HTTP status that is not a success.

    402, 403, 404, 405, 410 and redirects count as ``auth``: no text is at fault and splitting a
    batch cures nothing. A success handed in here is a broken reply, ``contract``.
    """
    if status == 429:
        return "rate_limited"
    if status == 408:
        return "timeout"
    if status in _CONFIGURATION or 300 <= status < 400:
        return "auth"
    if status in {409, 425} or status >= 500:
        return "server"
    return "rejected" if 400 <= status < 500 else "contract"


def backoff_s(attempt: int, jitter: float) -> float:
    """Full-jitter delay in seconds before the next try, after ``attempt`` counted failures.

    Uniform over [0, min(cap, base·2^attempt)) for a uniform ``jitter`` in [0, 1); source: Marc
    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = MAX_DELAY_S if attempt >= 30 else min(MAX_DELAY_S, BASE_DELAY_S * 2**attempt)
    return ceiling * jitter


def decide(
    error_class: ErrorClass,
    attempt: int,
    now: datetime,
    retry_after_s: float | None,
    jitter: float,
    *,
    batch_size: int = 1,
    provider_down: bool = False,
) -> Decision:
    """Decide what becomes of a failed call.

    Eight attempts last about a minute, and an outage lasts longer: a failure that a known-good text
    meets too must not be counted against the memories that happened to be in the call.

    Args:
        error_class: what went wrong.
        attempt: failures counted before this one (0 at the first).
        now: the time of the failure; returned times carry its time zone.
        retry_after_s: the provider's Retry-After, a floor; None, NaN or negative when it said none.
        jitter: uniform random number in [0, 1).
        batch_size: number of texts in the failed call.
        provider_down: a known-good text (``engram.embedding.probe``) failed just now, too.
    """
    floor_s = _floor_s(retry_after_s)
    if provider_down and error_class not in {"rate_limited", "auth"}:
        pause_s = AUTH_PAUSE_S if error_class == "rejected" else OUTAGE_PAUSE_S * (1 + jitter / 2)
        return PauseLane(now + timedelta(seconds=max(floor_s, pause_s)))
    match error_class:
        case "rate_limited":
            # Jitter comes on top of the floor, or all who were told "5 s" return together.
            delay_s = max(floor_s, BASE_DELAY_S) + backoff_s(attempt, jitter)
            return Defer(now + timedelta(seconds=delay_s))
        case "auth":
            return PauseLane(now + timedelta(seconds=max(floor_s, AUTH_PAUSE_S)))
        case "rejected":
            return Split() if batch_size > 1 else DeadLetter("rejected")
        case "server" | "timeout" | "connection" | "contract":
            return _count(error_class, attempt, now, floor_s + backoff_s(attempt, jitter))
    assert_never(error_class)


def _count(error_class: str, attempt: int, now: datetime, delay_s: float) -> Decision:
    if attempt + 1 >= MAX_ATTEMPTS:
        return DeadLetter(f"{error_class} after {attempt + 1} attempts")
    return RetryAt(now + timedelta(seconds=delay_s), attempt + 1)


def _floor_s(retry_after_s: float | None) -> float:
    if retry_after_s is None or math.isnan(retry_after_s):
        return 0.0
    return min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)
