"""``engram spaces``: the spaces there are, and which model of its family embeds for each."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engram_cli import output
from engram_cli.options import AsJson, open_client

_ROUTE = "/v1/spaces"

Space = Annotated[int, typer.Argument(metavar="ID", help="A space as `list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="See spaces, and switch between models of one family.")
    group.command("list")(list_spaces)
    group.command("models")(show_models)
    group.command("use")(use_model)
    app.add_typer(group, name="spaces")


def list_spaces(as_json: AsJson = False) -> None:
    """List the spaces, and the model that embeds for each now."""
    with open_client() as client:
        found = client.request("GET", _ROUTE)
    rows = [(one["id"], one["key"], one["embeds_with"]) for one in found["items"]]
    output.show(
        found,
        as_json=as_json,
        people=lambda: output.table(("id", "space", "embeds with"), rows, empty="No space."),
    )


def show_models(space: Space, as_json: AsJson = False) -> None:
    """Show the family of a space, and how many of its vectors each model made."""
    with open_client() as client:
        found = client.request("GET", f"{_ROUTE}/{space}/models")
    _show(found, as_json=as_json)


def use_model(
    space: Space,
    model: Annotated[str, typer.Argument(help="Another model of the family.")],
    as_json: AsJson = False,
) -> None:
    """Let another model of the family embed from now on; nothing is embedded again."""
    with open_client() as client:
        found = client.request("PATCH", f"{_ROUTE}/{space}", body={"embeds_with": model})
    _show(found, as_json=as_json)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    vectors = found.get("vectors", {})
    rows = [
        (model, "yes" if model == found["embeds_with"] else None, vectors.get(model))
        for model in found["family"]
    ]
    output.show(
        found,
        as_json=as_json,
        people=lambda: output.table(
            ("model", "embeds now", "vectors"), rows, empty="No other model shares this space."
        ),
    )
