"""Small probes of servers: is anything there, and is it what it should be."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

# Readiness asks servers that may be slow to answer, for up to 2.5 s.
_TIMEOUT_S: Final = 4.0
_POSTGRES_PORT: Final = 5432
_NATS_PORT: Final = 4222
# SSLRequest: every PostgreSQL answers it with one byte, before any authentication.
_SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")


def readiness(ops_url: str) -> dict[str, Any]:
    """Return what ``/readyz`` says: ``ready``, ``detail`` for a person, and its ``findings``."""
    import httpx

    try:
        answer = httpx.get(f"{ops_url}/readyz", timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        detail = f"{ops_url} cannot be reached ({type(error).__name__})"
        return {"ready": False, "detail": detail, "findings": []}
    detail = f"{ops_url}/readyz answers {answer.status_code}"
    return {"ready": answer.is_success, "detail": detail, "findings": _findings(answer)}


def _findings(answer: httpx.Response) -> list[dict[str, str]]:
    """Return what a service says is wrong; another program may listen there."""
    try:
        found = answer.json().get("findings", [])
        return [one for one in found if one["check"] and one["detail"] and one["cure"]]
    except (ValueError, AttributeError, TypeError, KeyError):
        return []


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
