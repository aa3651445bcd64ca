"""``engram keys``: list, create and revoke API keys through the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from engram_cli import output
from engram_cli.options import AsJson, open_client


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="List, create and revoke API keys.", no_args_is_help=True)
    group.command("list")(list_keys)
    group.command("create")(create_key)
    group.command("revoke")(revoke_key)
    app.add_typer(group, name="keys")


def list_keys(as_json: AsJson = False) -> None:
    """List the workspace's keys; their secrets are not kept anywhere."""
    with open_client() as client:
        keys = list(client.pages("/v1/keys"))
    columns = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at")
    rows = [[_shown(key.get(column)) for column in columns] for key in keys]
    output.show(
        {"items": keys},
        as_json=as_json,
        people=lambda: output.table(columns, rows, empty="No keys."),
    )


def create_key(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do; repeat for several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and show it, this once."""
    body: dict[str, Any] = {"name": name} | ({"scopes": scope} if scope else {})
    with open_client() as client:
        key = client.request("POST", "/v1/keys", body=body)

    def people() -> None:
        output.line(str(key["key"]), "bold")
        output.line("Keep it now: it is not shown again.", "yellow")

    output.show(key, as_json=as_json, people=people)


def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a key at once."""
    with open_client() as client:
        client.request("DELETE", f"/v1/keys/{quote(key_id, safe='')}")
    output.show(
        {"id": key_id, "revoked": True},
        as_json=as_json,
        people=lambda: output.line(f"revoked {key_id}"),
    )


def _shown(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value
