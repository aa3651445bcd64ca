"""``engram status``: what the workspace holds, how the pipeline flows, and what is not ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import RenderableType

    from engram.client import WorkspaceInfo
    from engram_cli.credentials import Target
    from engram_cli.pipeline_look import Course

# Totals come from Postgres's statistics, which are reported once a second.
_BETWEEN_S: Final = 1.0

Watch = Annotated[bool, typer.Option("--watch", help="Draw it again every second, until Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(watch: Watch = False, as_json: AsJson = False) -> None:
    """Show the workspace, the pipeline from outbox to vectors, and whether the service is ready."""
    from engram_cli.credentials import resolve_target
    from engram_cli.pipeline_look import Course

    target = resolve_target()
    if watch:
        _watch(target, as_json=as_json)
        return
    course = Course()
    answer = {"url": target.url, "workspace": _workspace(target), **_look(target, course)}
    if answer["pipeline"] is not None:
        time.sleep(_BETWEEN_S)
        answer |= _pipeline(target, course)
    output.show(answer, as_json=as_json, people=lambda: _show(answer))
    if not answer["health"]["ready"]:
        raise typer.Exit(3)


def _look(target: Target, course: Course) -> dict[str, Any]:
    """Return what is cheap enough to be asked every second; a workspace is counted row by row."""
    from engram_cli.health import readiness

    return {"health": readiness(target.ops_url), **_pipeline(target, course)}


def _workspace(target: Target) -> WorkspaceInfo:
    from engram.client import Client

    with Client(target.url, target.api_key) as client:
        return client.workspace()


def _pipeline(target: Target, course: Course) -> dict[str, Any]:
    from engram_cli.pipeline_look import fetch

    picture = fetch(target.ops_url)
    if picture is not None:
        course.add(picture)
    return {"pipeline": picture, "rates_per_s": course.rates()}


def _watch(target: Target, *, as_json: bool) -> None:
    """Draw until interrupted; JSON is a line for each look."""
    from engram_cli.pipeline_look import Course

    course = Course()
    if as_json:
        while True:
            output.print_json(_look(target, course))
            time.sleep(_BETWEEN_S)
    from rich.live import Live

    first = _view(_look(target, course))
    with Live(first, console=output.console(), auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(_BETWEEN_S)
            live.update(_view(_look(target, course)), refresh=True)


def _show(answer: dict[str, Any]) -> None:
    _show_workspace(answer["workspace"])
    output.console().print(_view(answer))


def _view(answer: dict[str, Any]) -> RenderableType:
    """Return the pipeline, and below it the service and what is wrong with it."""
    from rich.console import Group

    from engram_cli.pipeline_view import draw

    health = answer["health"]
    parts: list[RenderableType] = []
    if answer["pipeline"] is not None:
        unicode = "utf" in output.console().encoding
        parts.append(draw(answer["pipeline"], answer["rates_per_s"], arrow="▼" if unicode else "v"))
    ready = "ready" if health["ready"] else health["detail"]
    parts.append(output.plain(f"service  {ready}", "green" if health["ready"] else "red"))
    for found in health["findings"]:
        style = "yellow" if found.get("severity") == "warning" else "red"
        parts.append(output.plain(f"  {found['check']}: {found['detail']}", style))
    return Group(*parts)


def _show_workspace(workspace: WorkspaceInfo) -> None:
    output.line(f"workspace  {workspace['name']}  {workspace['id']}")
    states = ", ".join(f"{count:,} {state}" for state, count in workspace["by_state"].items())
    output.line(f"memories   {workspace['memory_count']:,}" + (f"  ({states})" if states else ""))
    rows = [
        (space, counts["current"], counts["pending"], counts["dead"])
        for space, counts in workspace["vectors"].items()
    ]
    output.table(("space", "current", "pending", "dead"), rows, empty="No space is active.")
    output.line()
