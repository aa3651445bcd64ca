"""``engram status``: what the workspace holds and whether the services are ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram.client import WorkspaceInfo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(as_json: AsJson = False) -> None:
    """Show the workspace, its vectors by space, and whether the service is ready."""
    from engram.client import Client
    from engram_cli.credentials import resolve_target
    from engram_cli.health import readiness

    target = resolve_target()
    with Client(target.url, target.api_key) as client:
        workspace = client.workspace()
    health = readiness(target.ops_url)

    def people() -> None:
        _show_workspace(workspace)
        style = "green" if health["ready"] else "red"
        output.line(f"service  {'ready' if health['ready'] else health['detail']}", style)

    answer = {"url": target.url, "workspace": workspace, "health": health}
    output.show(answer, as_json=as_json, people=people)
    if not health["ready"]:
        raise typer.Exit(3)


def _show_workspace(workspace: WorkspaceInfo) -> None:
    output.line(f"workspace  {workspace['name']}  {workspace['id']}")
    states = ", ".join(f"{count:,} {state}" for state, count in workspace["by_state"].items())
    output.line(f"memories   {workspace['memory_count']:,}" + (f"  ({states})" if states else ""))
    rows = [
        (space, counts["current"], counts["pending"], counts["dead"])
        for space, counts in workspace["vectors"].items()
    ]
    output.table(("space", "current", "pending", "dead"), rows, empty="No space is active.")
