"""Reads answers: problem documents into errors, and whether and when to try again. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from engram.errors import (
    BusyError,
    ConflictError,
    EngramError,
    Fault,
    ForbiddenError,
    InvalidError,
    MalformedError,
    NotFoundError,
    PreconditionError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)

Outcome = httpx.Response | httpx.RequestError

_CLASSES: Final[Mapping[int, type[EngramError]]] = {
    **{
        cls.status: cls
        for cls in (
            BusyError,
            ConflictError,
            ForbiddenError,
            InvalidError,
            MalformedError,
            NotFoundError,
            PreconditionError,
            TooLargeError,
            UnauthenticatedError,
            UnavailableError,
        )
    },
    502: UnavailableError,
    504: UnavailableError,
}
_RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})


def error_of(outcome: Outcome, now: datetime) -> EngramError:
    """Return what a failed exchange means, as the error class of its status.

    A body that is no problem document (a proxy's page, say) is not quoted.
    """
    if isinstance(outcome, httpx.RequestError):
        return UnavailableError(
            "unreachable",
            f"The engram server cannot be reached ({type(outcome).__name__}).",
            cure="Check ENGRAM_URL, and that `engram up` or the ingest service is running.",
        )
    problem = _problem(outcome)
    status = outcome.status_code
    error_class = _CLASSES.get(status, EngramError)
    return error_class(
        _text(problem, "code") or f"http_{status}",
        _text(problem, "detail") or _text(problem, "title") or f"The server answered {status}.",
        cure=_text(problem, "cure") or _default_cure(status),
        faults=_faults(problem.get("errors")),
        retry_after_s=retry_after_s(outcome.headers, now),
    )


def may_retry(outcome: Outcome, *, had_failed: bool) -> bool:
    """Return whether the same request may go out again with hope.

    A 409 is hopeless unless an earlier try of this very request may still be running under its
    idempotency key: then it ends, and the saved answer comes.
    """
    if isinstance(outcome, httpx.RequestError):
        return isinstance(outcome, httpx.TransportError) and not isinstance(
            outcome, httpx.UnsupportedProtocol | httpx.LocalProtocolError
        )
    if outcome.status_code == httpx.codes.CONFLICT:
        return had_failed or "retry-after" in outcome.headers
    return outcome.status_code in _RETRIED_STATUSES


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the wait a server asked for, in seconds: RFC 9110, 10.2.3, number or date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        due = parsedate_to_datetime(value)
    except ValueError:
        return None
    if due.tzinfo is None:  # "-0000" means UTC too
        due = due.replace(tzinfo=UTC)
    return max(0.0, (due - now).total_seconds())


def json_of(response: httpx.Response) -> Any:
    """Return the JSON of a good answer.

    Raises:
        UnavailableError: the answer is no JSON, so what answered is no engram server.
    """
    try:
        return response.json()
    except ValueError as error:
        raise bad_answer() from error


def object_of(response: httpx.Response) -> Any:
    """Return the JSON object of a good answer, for its caller to name the shape.

    Raises:
        UnavailableError: the answer is something else.
    """
    value = json_of(response)
    if not isinstance(value, dict):
        raise bad_answer()
    return value


def value_of(line: bytes) -> Any:
    """Return the JSON value of one line of NDJSON.

    Lines are cut from bytes, at line feeds: text has further ends of lines, which JSON may hold.

    Raises:
        UnavailableError: the line is no JSON, so what answered is no engram server.
    """
    try:
        return json.loads(line)
    except ValueError as error:
        raise bad_answer() from error


def bad_answer() -> UnavailableError:
    """Return the error for an answer that no engram server gives."""
    return UnavailableError(
        "bad_answer",
        "The server's answer is not what an engram server gives.",
        cure="Check ENGRAM_URL: it may point to another program, or to a proxy.",
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _text(problem: Mapping[str, Any], name: str) -> str:
    value = problem.get(name)
    return value if isinstance(value, str) else ""


def _faults(listed: object) -> tuple[Fault, ...]:
    if not isinstance(listed, list):
        return ()
    return tuple(
        Fault(_text(fault, "pointer"), _text(fault, "code"), _text(fault, "detail"))
        for fault in listed
        if isinstance(fault, dict)
    )


def _default_cure(status: int) -> str:
    if httpx.codes.is_redirect(status):
        return "Set ENGRAM_URL to the address that the server redirects to."
    return {
        401: "Check ENGRAM_API_KEY; `engram keys list` shows the live keys.",
        403: "Use a key with the needed scope.",
        429: "Wait, then try again.",
    }.get(status, "")
