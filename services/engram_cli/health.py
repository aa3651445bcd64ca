"""Small probes of servers: is anything there, and is it what it should be."""

from __future__ import annotations

import socket
from typing import Any, Final
from urllib.parse import urlsplit

_TIMEOUT_S: Final = 3.0
_POSTGRES_PORT: Final = 5432
_NATS_PORT: Final = 4222
# SSLRequest: every PostgreSQL answers it with one byte, before any authentication.
_SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")


def readiness(ops_url: str) -> dict[str, Any]:
    """Return what ``/readyz`` says: ``ready``, and ``detail`` for a person."""
    import httpx

    try:
        answer = httpx.get(f"{ops_url}/readyz", timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return {"ready": False, "detail": f"{ops_url} cannot be reached ({type(error).__name__})"}
    return {"ready": answer.is_success, "detail": f"{ops_url}/readyz answers {answer.status_code}"}


def postgres_fault(url: str) -> str:
    """Return why no PostgreSQL answers at ``url``, or ``""``; nothing is logged in."""
    return _fault(url, _POSTGRES_PORT, _SSL_REQUEST, (b"S", b"N"), "PostgreSQL")


def nats_fault(url: str) -> str:
    """Return why no NATS server answers at the first address of ``url``, or ``""``."""
    return _fault(url.split(",", maxsplit=1)[0], _NATS_PORT, b"", (b"I",), "NATS server")


def _fault(url: str, port: int, ask: bytes, expected: tuple[bytes, ...], what: str) -> str:
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or port)
        with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(ask)
            first = connection.recv(1)
    except (OSError, ValueError) as error:
        return f"no {what} answers there ({type(error).__name__})"
    return "" if first in expected else f"what answers there is no {what}"
