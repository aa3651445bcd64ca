"""``engram imports``: large imports, which run as jobs on the server."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from engram_cli import output
from engram_cli.options import AsJson, open_client

_ROUTE = "/v1/imports"
_COLUMNS = ("id", "state", "format", "strategy", "received", "stored", "failed", "created_at")

ImportId = Annotated[str, typer.Argument(metavar="ID", help="An id as `list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="See, cancel and undo large imports.", no_args_is_help=True)
    group.command("list")(list_imports)
    group.command("show")(show_import)
    group.command("cancel")(cancel_import)
    group.command("restore")(restore_import)
    app.add_typer(group, name="imports")


def list_imports(as_json: AsJson = False) -> None:
    """List the workspace's large imports, newest first."""
    with open_client() as client:
        jobs = list(client.pages(_ROUTE))
    rows = [
        [{**job, "stored": job["imported"] + job["updated"]}[column] for column in _COLUMNS]
        for job in jobs
    ]
    output.show(
        {"items": jobs},
        as_json=as_json,
        people=lambda: output.table(_COLUMNS, rows, empty="No imports."),
    )


def show_import(import_id: ImportId, as_json: AsJson = False) -> None:
    """Show how far an import is."""
    _show(_ask("GET", import_id), as_json=as_json)


def cancel_import(import_id: ImportId, as_json: AsJson = False) -> None:
    """End an import that waits or runs; what it has stored stays."""
    _show(_ask("POST", import_id, "/cancel"), as_json=as_json)


def restore_import(import_id: ImportId, as_json: AsJson = False) -> None:
    """Undo a replacement: what it archived is live again, what it brought is archived."""
    _show(_ask("POST", import_id, "/restore"), as_json=as_json)


def _ask(method: str, import_id: str, verb: str = "") -> dict[str, Any]:
    with open_client(120.0) as client:
        job: dict[str, Any] = client.request(method, f"{_ROUTE}/{quote(import_id, safe='')}{verb}")
    return job


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    def people() -> None:
        error = job["error"]
        shown = {**job, "error": f"{error['detail']} [{error['code']}]" if error else None}
        namespaces = shown.pop("by_namespace")
        warnings = shown.pop("warnings")
        rows = [(name, str(value)) for name, value in shown.items() if value not in (None, "")]
        output.table(("field", "value"), rows, empty="")
        for warning in warnings:
            output.line(f"warning: {warning}", "yellow")
        if namespaces:
            output.table(("namespace", "memories"), list(namespaces.items()), empty="")

    output.show(job, as_json=as_json, people=people)
