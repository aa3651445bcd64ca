"""``engram merges``: what was absorbed by what, and undoing it."""

from __future__ import annotations

import itertools
from typing import Annotated, Any
from urllib.parse import quote

import typer

from engram_cli import output
from engram_cli.options import AsJson, open_client

_ROUTE = "/v1/merges"
_COLUMNS = ("id", "kind", "survivor", "member_count", "reason", "actor", "created_at", "undone_at")
_MAX_PAGE = 500
UNDO_TIMEOUT_S = 600.0

MergeId = Annotated[str, typer.Argument(metavar="ID", help="An id as `list` shows it.")]
Limit = Annotated[int, typer.Option(min=1, help="Most that are shown.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="See and undo merges.", no_args_is_help=True)
    group.command("list")(list_merges)
    group.command("show")(show_merge)
    group.command("undo")(undo_merge)
    app.add_typer(group, name="merges")


def list_merges(
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Only those it survived or was absorbed by.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List merges, newest first, exact repeats among them."""
    filters = {
        name: value for name, value in (("run_id", run), ("memory_id", memory)) if value is not None
    }
    merges = fetch(_ROUTE, filters, limit)
    rows = [[merge[column] for column in _COLUMNS] for merge in merges]
    output.show(
        {"items": merges},
        as_json=as_json,
        people=lambda: output.table(_COLUMNS, rows, empty="Nothing was merged."),
    )


def show_merge(merge_id: MergeId, as_json: AsJson = False) -> None:
    """Show a merge with the texts of its survivor and its members."""
    merge = _whole(merge_id)

    def people() -> None:
        members = merge.pop("members")
        content = merge.pop("content")
        fields([(name, value) for name, value in merge.items()])
        output.line(f"survivor: {content}")
        columns = ("memory_id", "cosine", "state", "undone_at", "content")
        rows = [[member[column] for column in columns] for member in members]
        output.table(columns, rows, empty="It has no members.")

    output.show(merge, as_json=as_json, people=people)


def undo_merge(
    merge_id: MergeId,
    member: Annotated[
        str | None, typer.Option(help="Only this memory; the others stay absorbed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Undo a merge: what it absorbed is itself again, edits and deletions since stay."""
    inside = "" if member is None else f"/members/{quote(member, safe='')}"
    show_undone(ask("POST", f"{_ROUTE}/{quote(merge_id, safe='')}{inside}/undo"), as_json=as_json)


def fetch(route: str, filters: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` items of a list."""
    with open_client() as client:
        found = client.pages(route, filters, page_size=min(limit, _MAX_PAGE))
        return list(itertools.islice(found, limit))


def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return what the server answers; an undo of a large run takes minutes."""
    with open_client(UNDO_TIMEOUT_S) as client:
        answer: dict[str, Any] = client.request(method, path, body=body)
    return answer


def fields(pairs: list[tuple[str, Any]]) -> None:
    """Write named values as a table, without those that are empty."""
    rows = [(name, str(value)) for name, value in pairs if value not in (None, "", {})]
    output.table(("field", "value"), rows, empty="")


def show_undone(done: dict[str, Any], *, as_json: bool) -> None:
    """Write what an undo came to."""

    def people() -> None:
        left = [f"{count:,} left ({name})" for name, count in done["left"].items() if count]
        counts = [f"{done['restored']:,} restored", f"{done['merges']:,} merges undone", *left]
        output.line(", ".join(counts))

    output.show(done, as_json=as_json, people=people)


def _whole(merge_id: str) -> dict[str, Any]:
    """Return a merge with all its members, which come in pages."""
    path = f"{_ROUTE}/{quote(merge_id, safe='')}"
    with open_client() as client:
        merge: dict[str, Any] = client.request("GET", path)
        while cursor := merge.pop("next_cursor"):
            page = client.request("GET", path, cursor=cursor)
            merge["members"] += page["members"]
            merge["next_cursor"] = page["next_cursor"]
    return merge
