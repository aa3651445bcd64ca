"""Which server the command line talks to: environment first, then what ``engram up`` left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from engram.errors import UnauthenticatedError
from engram_cli.runtime.datadir import default_data_dir, read_credentials

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_OPS_PORT: Final = "8081"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, the key to talk to it with, and where its health is told.

    Attributes:
        source: where the key came from, for a person.
    """

    url: str
    api_key: str
    ops_url: str
    source: str

    def __repr__(self) -> str:  # the key stays out of logs and tracebacks
        return f"Target(url={self.url!r}, source={self.source!r})"


def resolve_target(env: Mapping[str, str] | None = None, data_dir: Path | None = None) -> Target:
    """Return the server to talk to; ``ENGRAM_URL`` and ``ENGRAM_API_KEY`` win one by one.

    A stored key is sent only to the server it was stored for: with ``ENGRAM_URL`` naming another
    one, ``ENGRAM_API_KEY`` is needed too.

    Raises:
        UnauthenticatedError: there is no key for the server.
    """
    env = os.environ if env is None else env
    url, api_key = env.get("ENGRAM_URL", ""), env.get("ENGRAM_API_KEY", "")
    if url and api_key:
        return Target(url, api_key, _ops_url(url, env), "environment")
    folder = data_dir or default_data_dir(env)
    stored = read_credentials(folder)
    if stored is not None and (not url or url.rstrip("/") == stored.url.rstrip("/")):
        source = "environment" if api_key else str(folder)
        return Target(stored.url, api_key or stored.api_key, stored.ops_url, source)
    if api_key:
        return Target(DEFAULT_URL, api_key, _ops_url(DEFAULT_URL, env), "environment")
    raise UnauthenticatedError(
        "no_api_key",
        f"ENGRAM_API_KEY is not set, and {folder} holds no key for {url or 'any server'}.",
        cure="Start `engram up`, or set ENGRAM_URL and ENGRAM_API_KEY.",
    )


def _ops_url(url: str, env: Mapping[str, str]) -> str:
    # The operations port is never behind the API's own address, so only the host carries over.
    try:
        host = urlsplit(url).hostname or "127.0.0.1"
    except ValueError:  # no address at all; the client refuses it with a better word
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{env.get('ENGRAM_OPS_PORT') or DEFAULT_OPS_PORT}"
