"""``engram decay``: what would fade away, running it now, settings, and bringing memories back."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from engram.errors import UnavailableError, UsageError
from engram_cli import output
from engram_cli.options import AsJson, Namespace, open_client

if TYPE_CHECKING:
    from engram.client import Client

_ROUTE = "/v1/decay"
_FIELDS = ("half_life_days", "floor", "grace_days", "enabled")
_PREVIEW = ("namespace", "active", "due", "archived", "due_in_7_days", "due_in_30_days", "slowed")
_RUNS = ("id", "state", "actor", "archived", "restored", "slowed", "created_at", "finished_at")
_LOOK_S = 0.2
# A restore brings everything back in one answer.
_TIMEOUT_S = 600.0
_EXIT_FAILED = 1

Prefix = Annotated[
    str | None, typer.Option(help="Namespaces that begin with this, such as session:.")
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="See, run and undo the fading of memories.", no_args_is_help=True)
    group.command("preview")(preview)
    group.command("run")(run)
    group.command("runs")(list_runs)
    group.command("restore")(restore)
    group.command("settings")(settings)
    app.add_typer(group, name="decay")


def preview(namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Show what would be archived now, and what comes due within 7 and 30 days."""
    with open_client() as client:
        found = client.request("GET", f"{_ROUTE}/preview", namespace=namespace)
    output.show(found, as_json=as_json, people=lambda: _show_preview(found))


def _show_preview(found: dict[str, Any]) -> None:
    rows = [[item[column] for column in _PREVIEW] for item in found["items"]]
    output.table(_PREVIEW, rows, empty="Nothing comes due within 30 days.")
    output.line(
        f"{found['archived']:,} of {found['due']:,} due memories would be archived now; "
        f"{found['due_in_7_days']:,} are due in 7 days, {found['due_in_30_days']:,} in 30."
    )


def run(
    namespace: Namespace = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be archived, change nothing.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, help="Longest wait for its end, in seconds.")
    ] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Archive what has faded, now; ends with 1 when the run failed."""
    body = {"namespace": namespace, "dry_run": dry_run}
    with open_client() as client:
        found = client.request("POST", f"{_ROUTE}/runs", body=body)
        if not dry_run:
            found = _ended(client, found, timeout_s)
    if dry_run:
        output.show(found, as_json=as_json, people=lambda: _show_preview(found))
        return
    output.show(found, as_json=as_json, people=lambda: _show_run(found))
    if found["state"] == "failed":
        raise typer.Exit(_EXIT_FAILED)


def _ended(client: Client, found: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while found["state"] in ("queued", "running"):
        if time.monotonic() > deadline:
            raise UnavailableError(
                "decay_not_run",
                f"The run is still {found['state']}.",
                cure="See that a curator runs (`engram schedule list`); it goes on by itself.",
            )
        time.sleep(_LOOK_S)
        found = client.request("GET", f"{_ROUTE}/runs/{found['id']}")
    return found


def _show_run(found: dict[str, Any]) -> None:
    output.line(f"{found['archived']:,} archived by run {found['id']} ({found['state']})")
    if found["slowed"]:
        shown = ", ".join(found["slowed_namespaces"][:5])
        output.line(f"{found['slowed']:,} namespaces held back by the cap: {shown}", "yellow")


def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="Most runs shown.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the runs that archived anything, newest first."""
    with open_client() as client:
        found = client.pages(f"{_ROUTE}/runs", {}, page_size=min(limit, 500))
        runs: list[dict[str, Any]] = list(itertools.islice(found, limit))
    rows = [[item[column] for column in _RUNS] for item in runs]
    output.show(
        {"items": runs},
        as_json=as_json,
        people=lambda: output.table(_RUNS, rows, empty="Nothing was archived."),
    )


def restore(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run as `runs` shows it.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Only this memory.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring back what a run has archived, or one archived memory."""
    if (run_id is None) == (memory is None):
        raise UsageError(
            "usage", "What is to be restored is not clear.", cure="Name a run, or --memory ID."
        )
    with open_client(_TIMEOUT_S) as client:
        if memory is not None:
            found = client.request("POST", f"/v1/memories/{quote(memory, safe='')}/restore")
            text = f"{found['id']} is {found['state']}"
        else:
            found = client.request("POST", f"{_ROUTE}/runs/{quote(str(run_id), safe='')}/restore")
            text = f"{found['restored']:,} restored, {found['kept']:,} kept as they are"
    output.show(found, as_json=as_json, people=lambda: output.line(text))


def settings(
    namespace: Namespace = None,
    prefix: Prefix = None,
    half_life: Annotated[
        str | None, typer.Option(help="Days in which importance halves; `inherit` to clear.")
    ] = None,
    floor: Annotated[
        str | None, typer.Option(help="Importance below which a memory is faded; 0: never.")
    ] = None,
    grace: Annotated[str | None, typer.Option(help="Days that a faded memory is kept for.")] = None,
    archive: Annotated[
        str | None, typer.Option(help="`on`, `off` or `inherit`: whether anything is archived.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show or change how the workspace, a namespace or a prefix fades."""
    changes = _changes(half_life, floor, grace, archive)
    query = {"namespace": namespace, "prefix": prefix}
    with open_client() as client:
        if changes:
            found = client.request("PATCH", _ROUTE, body=changes, **query)
        else:
            found = client.request("GET", _ROUTE, **query)
    rows = [[n, found["own"][n], found["effective"][n]] for n in _FIELDS]
    output.show(
        found,
        as_json=as_json,
        people=lambda: output.table(("setting", "own", "effective"), rows, empty=""),
    )


def _changes(
    half_life: str | None, floor: str | None, grace: str | None, archive: str | None
) -> dict[str, float | bool | None]:
    given = {"half_life_days": half_life, "floor": floor, "grace_days": grace}
    changes: dict[str, float | bool | None] = {
        name: _number(text) for name, text in given.items() if text is not None
    }
    if archive is not None:
        switch = {"on": True, "off": False, "inherit": None}
        if archive not in switch:
            raise _unclear(archive)
        changes["enabled"] = switch[archive]
    return changes


def _number(text: str) -> float | None:
    if text == "inherit":
        return None
    try:
        return float(text)
    except ValueError:
        raise _unclear(text) from None


def _unclear(text: str) -> UsageError:
    return UsageError(
        "usage",
        f"{text} is no value of this option.",
        cure="Give a number, or on or off, or inherit.",
    )
