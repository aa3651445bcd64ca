"""``engram dedup``: runs of the sweep, and what it leaves to a person: proposals and conflicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

import typer

from engram_cli import output
from engram_cli.commands import dedup_judge, dedup_run
from engram_cli.commands.merges import Limit, ask, fetch, fields, show_undone
from engram_cli.options import AsJson, Namespace

if TYPE_CHECKING:
    from engram.domain.dedup_decision import Judge

_RUNS = "/v1/dedup/runs"
_PROPOSALS = "/v1/dedup/proposals"
_CONFLICTS = "/v1/dedup/conflicts"
# A judge scores all that wait before the best are shown; of more, the oldest.
_MOST_RANKED = 1_000
_RUN_COLUMNS = ("id", "state", "actor", "merged", "restored", "started_at", "finished_at")

Id = Annotated[str, typer.Argument(metavar="ID", help="An id as `list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Near-duplicates: runs, proposals, conflicts.", no_args_is_help=True)
    proposals = typer.Typer(help="Pairs that may say the same.", no_args_is_help=True)
    proposals.command("list")(list_proposals)
    proposals.command("show")(show_proposal)
    proposals.command("accept")(accept)
    proposals.command("reject")(reject)
    conflicts = typer.Typer(help="Pairs that contradict each other.", no_args_is_help=True)
    conflicts.command("list")(list_conflicts)
    conflicts.command("show")(show_conflict)
    conflicts.command("resolve")(resolve)
    conflicts.command("undo")(reopen)
    runs = typer.Typer(help="Runs of the sweep.", no_args_is_help=True)
    runs.command("list")(list_runs)
    runs.command("show")(show_run)
    runs.command("cancel")(cancel_run)
    runs.command("undo")(undo_run)
    for name, inner in (("proposals", proposals), ("conflicts", conflicts), ("runs", runs)):
        group.add_typer(inner, name=name)
    for module in (dedup_run, dedup_judge):
        module.register(group)
    app.add_typer(group, name="dedup")


def list_proposals(
    state: Annotated[
        Literal["open", "accepted", "rejected"], typer.Option(help="Open ones, or past ones.")
    ] = "open",
    namespace: Namespace = None,
    limit: Limit = 50,
    rank_by: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="A program that scores the pairs; the best first."),
    ] = None,
    rank_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long it may take for all.")
    ] = 300.0,
    as_json: AsJson = False,
) -> None:
    """List pairs that may say the same, oldest first, or as a judge ranks them."""
    found = _found(_PROPOSALS, state, namespace, limit if rank_by is None else _MOST_RANKED)
    if rank_by is not None:
        found = _ranked(found, rank_by, rank_timeout)[:limit]
    _show_found(found, "No proposals.", as_json=as_json)


def show_proposal(proposal_id: Id, as_json: AsJson = False) -> None:
    """Show a proposal with both texts."""
    _show(_PROPOSALS, proposal_id, as_json=as_json)


def accept(
    proposal_id: Id,
    survivor: Annotated[
        str | None, typer.Option(help="Which of the two stays; default: as proposed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge the two; `engram merges undo` takes it back."""
    body = {} if survivor is None else {"survivor": survivor}
    _decide(_PROPOSALS, proposal_id, "accept", body, as_json=as_json)


def reject(proposal_id: Id, as_json: AsJson = False) -> None:
    """Keep the two apart; they are not proposed again until one of the texts changes."""
    _decide(_PROPOSALS, proposal_id, "reject", None, as_json=as_json)


def list_conflicts(
    state: Annotated[
        Literal["open", "resolved"], typer.Option(help="Open ones, or past ones.")
    ] = "open",
    namespace: Namespace = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List pairs that contradict each other, oldest first."""
    found = _found(_CONFLICTS, state, namespace, limit)
    _show_found(found, "No conflicts.", as_json=as_json)


def show_conflict(conflict_id: Id, as_json: AsJson = False) -> None:
    """Show a conflict with both texts, and which is newer."""
    _show(_CONFLICTS, conflict_id, as_json=as_json)


def resolve(
    conflict_id: Id,
    keep: Annotated[str, typer.Option(help="newer, older, both, or the id of one of the two.")],
    as_json: AsJson = False,
) -> None:
    """Close a conflict: what is not kept becomes superseded and is no longer found."""
    _decide(_CONFLICTS, conflict_id, "resolve", {"keep": keep}, as_json=as_json)


def reopen(conflict_id: Id, as_json: AsJson = False) -> None:
    """Take a resolution back: what it superseded is live again."""
    _decide(_CONFLICTS, conflict_id, "undo", None, as_json=as_json)


def list_runs(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List runs of the sweep, newest first."""
    runs = fetch(_RUNS, {}, limit)
    rows = [[run[column] for column in _RUN_COLUMNS] for run in runs]
    output.show(
        {"items": runs},
        as_json=as_json,
        people=lambda: output.table(_RUN_COLUMNS, rows, empty="No runs."),
    )


def show_run(run_id: Id, as_json: AsJson = False) -> None:
    """Show how far a run is, or how it ended."""
    _show_run(ask("GET", _path(_RUNS, run_id)), as_json=as_json)


def cancel_run(run_id: Id, as_json: AsJson = False) -> None:
    """End a run that is running; what it has merged stays."""
    _show_run(ask("POST", f"{_path(_RUNS, run_id)}/cancel"), as_json=as_json)


def undo_run(run_id: Id, as_json: AsJson = False) -> None:
    """Undo all that a run has merged."""
    show_undone(ask("POST", f"{_path(_RUNS, run_id)}/undo"), as_json=as_json)


def _path(route: str, one: str) -> str:
    return f"{route}/{quote(one, safe='')}"


def _found(route: str, state: str, namespace: str | None, limit: int) -> list[dict[str, Any]]:
    filters = {"state": state} | ({} if namespace is None else {"namespace": namespace})
    return fetch(route, filters, limit)


def _ranked(found: list[dict[str, Any]], command: str, timeout_s: float) -> list[dict[str, Any]]:
    """Return proposals with the judge's scores, the best first; it decides nothing."""
    from engram_cli.judge_program import ProgramJudge

    judge: Judge = ProgramJudge(command, timeout_s)
    texts = [[str(side["content"] or "") for side in one["memories"]] for one in found]
    scores = judge.rank([(a, b) for a, b in texts])
    scored = [{**one, "score": score} for one, score in zip(found, scores, strict=True)]
    return sorted(scored, key=lambda one: -one["score"])


def _show_found(found: list[dict[str, Any]], empty: str, *, as_json: bool) -> None:
    numbers = ["cosine", "score"] if any("score" in one for one in found) else ["cosine"]
    rows = [
        [
            one["id"],
            one["reason"],
            *(one[name] for name in numbers),
            *(_marked(one, side) for side in one["memories"]),
        ]
        for one in found
    ]
    columns = ("id", "reason", *numbers, "one", "other")
    output.show(
        {"items": found}, as_json=as_json, people=lambda: output.table(columns, rows, empty=empty)
    )


def _marked(one: dict[str, Any], side: dict[str, Any]) -> str:
    """Return a text, and whether it is the newer one or the one that would stay."""
    chosen = {"newer": one.get("newer"), "survivor": one.get("survivor")}
    marks = [mark for mark, memory in chosen.items() if memory == side["id"]]
    return f"{side['content']} ({', '.join(marks)})" if marks else str(side["content"])


def _show(route: str, one: str, *, as_json: bool) -> None:
    found = ask("GET", _path(route, one))

    def people() -> None:
        memories = found.pop("memories")
        fields(list(found.items()))
        columns = ("id", "version", "state", "pinned", "importance", "said_at", "content")
        output.table(columns, [[side[name] for name in columns] for side in memories], empty="")

    output.show(found, as_json=as_json, people=people)


def _decide(route: str, one: str, verb: str, body: object, *, as_json: bool) -> None:
    done = ask("POST", f"{_path(route, one)}/{verb}", body)

    def people() -> None:
        said = [f"{name} {value}" for name, value in done.items() if name != "state" and value]
        output.line(f"{done['state']}: {', '.join(said)}")

    output.show(done, as_json=as_json, people=people)


def _show_run(run: dict[str, Any], *, as_json: bool) -> None:
    def people() -> None:
        counts = run.pop("counts")
        fields(list(run.items()))
        if counts:
            output.table(("what", "count"), list(counts.items()), empty="")

    output.show(run, as_json=as_json, people=people)
