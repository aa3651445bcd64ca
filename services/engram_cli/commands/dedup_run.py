"""``engram dedup run``: one run of the sweep, now, with a bar while it is waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from engram_cli import output
from engram_cli.options import AsJson, Namespace, open_client

if TYPE_CHECKING:
    from engram.client import Client

_RUNS: Final = "/v1/dedup/runs"
_LOOK_S: Final = 0.25
_SHOWN_GROUPS: Final = 20
_COUNTED: Final = ("would_merge", "would_propose", "would_conflict", "proposals", "conflicts")


def register(group: typer.Typer) -> None:
    """Add the command to the group ``dedup``."""
    group.command("run")(run)


def run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; show what would be merged.")
    ] = False,
    namespace: Namespace = None,
    max_share: Annotated[
        float | None,
        typer.Option(help="Most of a namespace's memories that may be merged; default: 0.5."),
    ] = None,
    max_merged: Annotated[
        int | None, typer.Option(help="Most memories that the run may absorb.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Compare all, not only what is new.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return once it has ended.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Merge near-duplicates now; a run that is running already is joined."""
    asked = {
        "dry_run": dry_run, "namespace": namespace, "max_share": max_share,
        "max_merged": max_merged, "full": full,
    }  # fmt: skip
    with open_client(120.0) as client:
        begun = client.request("POST", _RUNS, body=asked)
        if not begun["begun"] and not as_json:
            output.note(f"Run {begun['id']} was running already; its own options hold.")
        ended = _waited(client, begun, quiet=as_json) if wait else begun
        groups = _preview(client, ended) if wait and ended["options"].get("dry_run") else None
    shown = ended if groups is None else {**ended, "preview": groups}
    output.show(shown, as_json=as_json, people=lambda: _show(ended, groups))
    if ended["state"] in ("capped", "failed"):
        raise typer.Exit(1)


def _waited(client: Client, begun: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    found = begun
    with output.progress(quiet=quiet) as update:
        try:
            while found["state"] == "running":
                counts = found["counts"]
                text = f"merged {found['merged']:,}  pairs read {counts.get('pairs', 0):,}"
                update(text, counts.get("memories_done", 0), counts.get("memories", 0))
                time.sleep(_LOOK_S)
                found = client.request("GET", f"{_RUNS}/{quote(begun['id'], safe='')}")
        except KeyboardInterrupt:
            output.note(f"The run goes on: engram dedup runs cancel {begun['id']} ends it.")
            raise
    return found


def _preview(client: Client, run: dict[str, Any]) -> list[dict[str, Any]]:
    return list(client.pages(f"{_RUNS}/{quote(run['id'], safe='')}/preview"))


def _show(run: dict[str, Any], groups: list[dict[str, Any]] | None) -> None:
    counts = run["counts"]
    parts = [f"{run['merged']:,} merged"]
    parts += [f"{counts[name]:,} {name.replace('_', ' ')}" for name in _COUNTED if name in counts]
    where = f"{counts.get('memories', 0):,} memories in {counts.get('namespaces', 0):,} namespaces"
    output.line(f"Run {run['id']} {run['state']}: {', '.join(parts)}; {where}.")
    if run["error"]:
        output.line(f"{run['error']['detail']} [{run['error']['code']}]", "yellow")
    if groups:
        rows = [_row(group) for group in groups[:_SHOWN_GROUPS]]
        output.table(("namespace", "would stay", "would go into it"), rows, empty="")
    if run["merged"]:
        output.line(f"engram dedup runs undo {run['id']} takes it back.")


def _row(group: dict[str, Any]) -> tuple[str, str, str]:
    members = [str(member["content"]) for member in group["members"]]
    further = group["member_count"] - len(members)
    said = "\n".join([*members, *([f"and {further:,} more"] if further else [])])
    return group["namespace"], str(group["survivor"]["content"]), said
