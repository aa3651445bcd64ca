"""Errors as values a user can act on: a stable code, what is wrong, where, and the cure."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the offending value, ``""`` for the whole input.
        code: stable machine-readable reason, such as ``too_long``.
        detail: one sentence for a person; never the value itself.
    """

    pointer: str
    code: str
    detail: str


class EngramError(Exception):
    """Base of every error engram raises on purpose.

    Attributes:
        code: stable machine-readable name, listed in docs/errors.md.
        detail: what is wrong, in one sentence, without content or secrets.
        cure: what the user can do about it.
        faults: the single things wrong, when there are several.
        retry_after_s: seconds to wait before trying again, when waiting helps.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        cure: str = "",
        faults: tuple[Fault, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{detail} {cure}".strip())
        self.code = code
        self.detail = detail
        self.cure = cure
        self.faults = faults
        self.retry_after_s = retry_after_s


class UsageError(EngramError):
    """The command or setting itself is wrong (exit code 2)."""

    status = 400
    exit_code = 2
    title = "Wrong usage"


class MalformedError(EngramError):
    """The bytes cannot be read as what they should be (HTTP 400)."""

    status = 400
    exit_code = 2
    title = "Malformed input"


class InvalidError(EngramError):
    """The input was read, but breaks a rule (HTTP 422)."""

    status = 422
    exit_code = 2
    title = "Invalid input"


class TooLargeError(EngramError):
    """The input is larger than its door allows (HTTP 413)."""

    status = 413
    exit_code = 2
    title = "Input too large"


class UnauthenticatedError(EngramError):
    """No key, or none that is known and live (HTTP 401)."""

    status = 401
    exit_code = 4
    title = "Not authenticated"


class ForbiddenError(EngramError):
    """The key is known but lacks the scope (HTTP 403)."""

    status = 403
    exit_code = 4
    title = "Not allowed"


class NotFoundError(EngramError):
    """Unknown, deleted, or another workspace's: all the same from outside (HTTP 404)."""

    status = 404
    exit_code = 1
    title = "Not found"


class ConflictError(EngramError):
    """The request collides with what is stored or in flight (HTTP 409)."""

    status = 409
    exit_code = 1
    title = "Conflict"


class PreconditionError(EngramError):
    """``If-Match`` named another version (HTTP 412)."""

    status = 412
    exit_code = 1
    title = "Precondition failed"


class BusyError(EngramError):
    """Too much is waiting; try again after ``retry_after_s`` (HTTP 429)."""

    status = 429
    exit_code = 4
    title = "Too many requests"


class UnavailableError(EngramError):
    """A server this depends on cannot be reached or started (HTTP 503)."""

    status = 503
    exit_code = 3
    title = "Service unavailable"
