"""``engram dead-letters``: what was put aside, why, and trying it again or giving it up."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.options import AsJson, open_client

_ROUTE = "/v1/dead-letters"
_COLUMNS = ("id", "kind", "class", "attempts", "age", "error")
_EXIT_FAILURES = 1
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))

Kind = Annotated[
    Literal["embedding", "ingest"] | None, typer.Option(help="Only this kind of dead letter.")
]
Class = Annotated[
    str | None, typer.Option("--class", help="Only this class or code, as `list` shows it.")
]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Ids as `list` shows them; else a filter.")
]
All = Annotated[bool, typer.Option("--all", help="All there are, whatever their kind.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="See, replay and discard dead letters.", no_args_is_help=True)
    group.command("list")(list_letters)
    group.command("show")(show_letter)
    group.command("replay")(replay)
    group.command("discard")(discard)
    app.add_typer(group, name="dead-letters")


def list_letters(
    kind: Kind = None,
    class_: Class = None,
    discarded: Annotated[
        bool, typer.Option("--discarded", help="Those failures of embedding that were given up.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the workspace's dead letters, oldest first."""
    filters = _given(kind=kind, discarded=discarded) | _given(**{"class": class_})
    with open_client() as client:
        letters = list(client.pages(_ROUTE, filters))
    rows = [
        [*(letter[c] for c in _COLUMNS[:4]), _age(letter), letter["error"]] for letter in letters
    ]
    output.show(
        {"items": letters},
        as_json=as_json,
        people=lambda: output.table(_COLUMNS, rows, empty="No dead letters."),
    )


def show_letter(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="An id as `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter, with what was sent when it came through ingest."""
    with open_client() as client:
        letter = client.request("GET", f"{_ROUTE}/{quote(letter_id, safe='')}")

    def people() -> None:
        payload = letter.pop("payload", None)
        output.table(("field", "value"), [(n, str(v)) for n, v in letter.items() if v], empty="")
        if payload is not None:
            output.line(payload)

    output.show(letter, as_json=as_json, people=people)


def replay(
    ids: Ids = None,
    kind: Kind = None,
    class_: Class = None,
    every: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Try dead letters again; ends with 1 when one failed again at once."""
    _act("replay", _selection(ids, kind, class_, every=every), dry_run=dry_run, as_json=as_json)


def discard(
    ids: Ids = None,
    kind: Kind = None,
    class_: Class = None,
    every: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give dead letters up: they are not tried again, and those of ingest are deleted."""
    _act("discard", _selection(ids, kind, class_, every=every), dry_run=dry_run, as_json=as_json)


def _selection(
    ids: list[str] | None, kind: str | None, class_: str | None, *, every: bool
) -> dict[str, Any]:
    by_filter = _given(kind=kind) | _given(**{"class": class_})
    ways: list[dict[str, Any]] = [{"ids": ids}] if ids else []
    ways += [way for way in (by_filter, _given(all=every)) if way]
    if len(ways) != 1:
        raise UsageError(
            "usage",
            "Which dead letters are meant is not clear.",
            cure="Name ids, or --kind and --class, or --all.",
        )
    return ways[0]


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _act(verb: str, selection: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    done = _run(verb, {**selection, "dry_run": dry_run})

    def people() -> None:
        past = {"replay": "replayed", "discard": "discarded"}[verb]
        counts = [f"{done[name]:,} {name}" for name in ("matched", past, "dropped", "failed")
                  if name in done]  # fmt: skip
        output.line(("nothing was changed; it would be: " if dry_run else "") + ", ".join(counts))
        rows = [(error["id"], error["code"], error["detail"]) for error in done["errors"]]
        if rows:
            output.table(("id", "code", "detail"), rows, empty="")

    output.show(done, as_json=as_json, people=people)
    if done["failed"]:
        raise typer.Exit(_EXIT_FAILURES)


def _run(verb: str, body: dict[str, Any]) -> dict[str, Any]:
    """Call the route until there is no more to go on with, and add the answers up."""
    total: dict[str, Any] = {}
    with open_client() as client:
        while True:
            answer = client.request("POST", f"{_ROUTE}/{verb}", body=body)
            cursor = answer.pop("next_cursor")
            for name, value in answer.items():
                adds = isinstance(value, int | list) and not isinstance(value, bool)
                total[name] = total[name] + value if adds and name in total else value
            if cursor is None:
                return total
            body = {**body, "cursor": cursor}


def _age(letter: dict[str, Any]) -> str:
    seconds = float(letter["age_s"])
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
