"""Options that several commands share, and the client they talk through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engram.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Namespace = Annotated[
    str | None, typer.Option(help="Namespace, such as user:alice; default: all of them.")
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="Most memories returned.")]


def open_client(timeout_s: float = 30.0) -> Client:
    """Return a client of the server and key that the environment or ``engram up`` names.

    Raises:
        UnauthenticatedError: there is no key.
        UsageError: the address cannot be used.
    """
    from engram.client import Client
    from engram_cli.credentials import resolve_target

    target = resolve_target()
    return Client(target.url, target.api_key, timeout_s)
