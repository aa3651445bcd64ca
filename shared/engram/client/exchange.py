"""The one retry loop of both clients: a generator that says what to send and how long to wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx

from engram.backoff import Backoff
from engram.client.answers import Outcome, error_of, may_retry
from engram.client.calls import Call
from engram.errors import EngramError, NotFoundError, UnauthenticatedError, UsageError

T = TypeVar("T")
DEFAULT_URL: Final = "http://127.0.0.1:8080"
USER_AGENT: Final = "engram-python"


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the shell to send the call once more and to answer with what came of it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask the shell to let time pass."""

    seconds: float


def _draw() -> float:
    return SystemRandom().random()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a retry decision needs from outside: bounds, randomness in [0, 1), and the time."""

    backoff: Backoff
    draw: Callable[[], float] = _draw
    now: Callable[[], datetime] = _now


def exchange(call: Call[T], around: Surroundings) -> Generator[Send | Wait, Outcome | None, T]:
    """Drive one call to its result: yields steps, takes outcomes, returns the result.

    Raises:
        EngramError: the last outcome, once it cannot or may not be tried again.
    """
    attempt = 1
    while True:
        outcome = yield Send()
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return call.read(outcome)
        if outcome is None:
            raise TypeError("a Send step is answered with an outcome")
        error = error_of(outcome, around.now())
        if call.done_if_gone and attempt > 1 and isinstance(error, NotFoundError):
            return call.read(httpx.Response(204))
        wait_s = _wait_s(outcome, error, attempt, around)
        if wait_s is None:
            raise error from (outcome if isinstance(outcome, Exception) else None)
        yield Wait(wait_s)
        attempt += 1


def connection_settings(
    url: str | None, api_key: str | None, env: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Return the server's address and the headers that every call carries.

    Raises:
        UsageError: the address is none.
        UnauthenticatedError: no key is given, or it could not stand in a header.
    """
    env = os.environ if env is None else env
    url = url or env.get("ENGRAM_URL") or DEFAULT_URL
    api_key = api_key or env.get("ENGRAM_API_KEY") or ""
    if not _is_http(url):
        raise UsageError(
            "bad_url",
            "The server's address is not http:// or https:// and a host.",
            cure=f"Set ENGRAM_URL, such as {DEFAULT_URL}.",
        )
    if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
        raise UnauthenticatedError(
            "no_api_key",
            "No API key is given, or it has characters no key has.",
            cure="Pass api_key, or set ENGRAM_API_KEY to a key of `engram keys create`.",
        )
    headers = {"Authorization": f"Bearer {api_key.strip()}", "User-Agent": USER_AGENT}
    return url, headers


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _wait_s(
    outcome: Outcome, error: EngramError, attempt: int, around: Surroundings
) -> float | None:
    if not may_retry(outcome, had_failed=attempt > 1):
        return None
    return around.backoff.wait_s(attempt, around.draw(), error.retry_after_s or 0.0)
