"""The server's export as a stream of bytes, which ends in an error unless it came whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import httpx

from engram.client.answers import error_of
from engram.client.exchange import connection_settings
from engram.errors import UnavailableError
from engram_cli.credentials import Target

# A page is read again for ten seconds when Postgres is away; silence beyond this is an end.
_SILENCE_S: Final = 120.0


@contextlib.contextmanager
def open_export(target: Target, query: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """Ask for an export and yield its chunks.

    Raises:
        UnavailableError: the server cannot be reached, or the stream ended before its end.
        EngramError: what the server refused it with.
    """
    url, headers = connection_settings(target.url, target.api_key)
    timeout = httpx.Timeout(30.0, read=_SILENCE_S)
    with httpx.Client(base_url=url, headers=headers, timeout=timeout) as client:
        began = False
        try:
            with client.stream("GET", "/v1/export", params=dict(query)) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer, datetime.now(UTC))
                began = True
                yield answer.iter_bytes()
        except httpx.RequestError as error:
            if began:
                raise _cut_off() from error
            raise error_of(error, datetime.now(UTC)) from error


def _cut_off() -> UnavailableError:
    return UnavailableError(
        "export_cut_off",
        "The export ended before its end; nothing of it was kept.",
        cure="Run it again; the server's log says why it stopped.",
    )
