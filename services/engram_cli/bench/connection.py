"""The HTTP client of benchmarks: authorised, kept open, without retries that would hide time."""

from __future__ import annotations

import httpx

from engram_cli.bench.stack import Stack

_TIMEOUT_S = 120.0


def open_http(stack: Stack) -> httpx.AsyncClient:
    """Return a client of the running engram, with its key."""
    return httpx.AsyncClient(
        base_url=stack.where.url,
        headers={"Authorization": f"Bearer {stack.where.api_key}"},
        timeout=_TIMEOUT_S,
    )
