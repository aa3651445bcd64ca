"""Reads request bodies within bounds of size and time."""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from engram import strictjson
from engram.errors import EngramError, MalformedError, TooLargeError

SMALL_BYTES = 1024 * 1024
IMPORT_BYTES = 8 * 1024 * 1024
PATIENCE_S = 30.0


class SlowClientError(EngramError):
    """The body did not arrive in time (HTTP 408)."""

    status = 408
    exit_code = 3
    title = "Request timeout"


class UnsupportedMediaError(EngramError):
    """The body is encoded in a way this route does not read (HTTP 415)."""

    status = 415
    exit_code = 2
    title = "Unsupported media type"


async def read_body(request: Request, max_bytes: int = SMALL_BYTES) -> bytes:
    """Return the whole body; memory is bounded by ``max_bytes``.

    Raises:
        TooLargeError: it is larger; found out from its length before reading where possible.
        SlowClientError: it took longer than the application's ``body_patience_s``.
        UnsupportedMediaError: it is compressed.
        MalformedError: the client went away in the middle.
    """
    check_body(request, max_bytes)
    patience_s: float = request.app.state.body_patience_s
    try:
        async with asyncio.timeout(patience_s):
            return await _collect(request, max_bytes)
    except TimeoutError:
        raise too_slow(patience_s) from None
    except ClientDisconnect:
        raise cut_off() from None


def check_body(request: Request, max_bytes: int) -> None:
    """Refuse a body by what its headers say of it.

    Raises:
        UnsupportedMediaError: it is compressed.
        TooLargeError: it announces more than ``max_bytes``.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaError(
            "compressed_body",
            "Compressed bodies are not read here.",
            cure="Send plain JSON; `engram import FILE` reads gzip files.",
        )
    if _announced_bytes(request) > max_bytes:
        raise too_large(max_bytes)


def too_slow(patience_s: float) -> SlowClientError:
    """Return the error for a client that keeps its body to itself."""
    return SlowClientError(
        "slow_client", f"The body took longer than {patience_s:g} s.", cure="Send it faster."
    )


def cut_off() -> MalformedError:
    """Return the error for a client that went away in the middle."""
    return MalformedError("cut_off", "The body ended early.", cure="Send it again.")


def _announced_bytes(request: Request) -> int:
    announced = request.headers.get("content-length", "")
    # What is no number is the HTTP parser's to refuse; twenty digits are more than any limit.
    return int(announced[:20]) if announced.isascii() and announced.isdigit() else 0


async def _collect(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, max_bytes: int = SMALL_BYTES) -> tuple[Any, bytes]:
    """Return the decoded body and its bytes.

    Raises:
        EngramError: as `read_body` and `engram.strictjson.loads`.
    """
    body = await read_body(request, max_bytes)
    return strictjson.loads(body, max_bytes=max_bytes), body


def too_large(max_bytes: int) -> TooLargeError:
    """Return the error for a body of more than ``max_bytes``."""
    return TooLargeError(
        "too_large",
        f"The body is larger than the {max_bytes:,} bytes this route reads.",
        cure="Send fewer memories at once, or use `engram import FILE`.",
    )
