"""``engram audit``: what was done in the workspace, by whom, and how much of it."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from engram_cli import output
from engram_cli.options import AsJson, open_client

_COLUMNS = ("at", "action", "subject", "actor", "counts", "format", "duration_s")
_MAX_PAGE = 500


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def audit(
    kind: Annotated[
        str | None, typer.Option(help="First word of the action, such as key or export.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on, such as 2026-01-31T09:00:00Z.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most entries shown.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the audit trail, newest first (needs a key with the scope operator)."""
    filters = {name: value for name, value in (("kind", kind), ("since", since)) if value}
    with open_client() as client:
        found = client.pages("/v1/audit", filters, page_size=min(limit, _MAX_PAGE))
        entries: list[dict[str, Any]] = list(itertools.islice(found, limit))
    rows = [[_shown(entry[column]) for column in _COLUMNS] for entry in entries]
    output.show(
        {"items": entries},
        as_json=as_json,
        people=lambda: output.table(_COLUMNS, rows, empty="Nothing was recorded."),
    )


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return value
