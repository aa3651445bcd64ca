"""``engram migrate``: from one embedding model to another while memories are read and written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from engram.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from engram_cli import output
from engram_cli.commands import migrate_shown
from engram_cli.options import AsJson, open_client

if TYPE_CHECKING:
    from engram.client import Client

_ROUTE = "/v1/migrations"
_LOOK_S = 0.2
_ENDED = ("released", "aborted")
_UNDER_WAY = ("dual_write", "backfill", "verified", "cut_over")
# A plan counts every memory; what it asks the provider is one small call.
_PLAN_TIMEOUT_S = 600.0

Id = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="Of a migration; default: the one under way, or newest."),
]
Wait = Annotated[
    float, typer.Option("--timeout", min=0, help="Longest wait for the migrator, in seconds.")
]
InWorkspace = Annotated[str | None, typer.Option("--workspace", help="Only of this workspace.")]
InNamespaces = Annotated[
    list[str] | None, typer.Option("--namespace", help="Only this one; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Change the embedding model with zero downtime.", no_args_is_help=True)
    group.command("plan")(plan)
    group.command("list")(list_migrations)
    group.command("status")(status)
    group.command("start")(start)
    group.command("set")(change)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("verify")(verify)
    group.command("cutover")(cutover)
    group.command("rollback")(rollback)
    group.command("release")(release)
    group.command("abort")(abort)
    app.add_typer(group, name="migrate")


def plan(
    to: Annotated[str, typer.Option(help="The new space, such as voyage:voyage-4@1024.")],
    workspace: Annotated[
        list[str] | None, typer.Option(help="Only this one, by id or name; may be repeated.")
    ] = None,
    order: Annotated[str, typer.Option(help="most_read or smallest namespaces first.")] = (
        "most_read"
    ),
    share: Annotated[
        float, typer.Option(help="Part of the provider's rate that the backfill may use.")
    ] = 1.0,
    measure: Annotated[
        bool, typer.Option(help="Let the provider count the tokens of a few texts.")
    ] = True,
    adapter: Annotated[
        bool, typer.Option(help="Let namespaces read the new space early, through an adapter.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a migration will take and what would block it; changes nothing. Ends with 1 then."""
    body = {"to": to, "order": order, "share": share, "measure": measure, "adapter": adapter}
    if workspace:
        body["workspaces"] = workspace
    with open_client(_PLAN_TIMEOUT_S) as client:
        found = client.request("POST", _ROUTE, body=body)
    output.show(found, as_json=as_json, people=lambda: migrate_shown.plan(found))
    if found["plan"]["blockers"]:
        raise typer.Exit(1)


def list_migrations(as_json: AsJson = False) -> None:
    """List the migrations, newest first."""
    with open_client() as client:
        found = list(client.pages(_ROUTE, {}, page_size=100))
    output.show({"items": found}, as_json=as_json, people=lambda: migrate_shown.listed(found))


def status(
    migration: Id = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until it rests.")] = False,
    namespaces: Annotated[
        bool, typer.Option("--namespaces", help="Show every namespace and what does not match.")
    ] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between looks.")] = (
        1.0
    ),
    as_json: AsJson = False,
) -> None:
    """Show phase, progress, rate, ETA, cost so far and mismatches."""
    with open_client() as client:
        found = _found(client, migration)
        if watch:
            found = _watched(client, found, every_s, as_json=as_json)
        if namespaces:
            route = f"{_ROUTE}/{found['id']}"
            found["items"] = list(client.pages(f"{route}/namespaces", {}, page_size=500))
            found["mismatches"] = list(client.pages(f"{route}/mismatches", {}, page_size=500))
    if not (watch and as_json):
        output.show(found, as_json=as_json, people=lambda: migrate_shown.status(found))


def _watched(
    client: Client, found: dict[str, Any], every_s: float, *, as_json: bool
) -> dict[str, Any]:
    """Look again and again until nothing goes on by itself: a line of JSON each, or bars."""
    with migrate_shown.bars(quiet=as_json) as draw:
        while True:
            if as_json:
                output.print_json(found)
            draw(found)
            if not _goes_on(found):
                return found
            time.sleep(every_s)
            found = client.request("GET", f"{_ROUTE}/{found['id']}")


def _goes_on(found: dict[str, Any]) -> bool:
    if found["wish"] is not None or found["phase"] == "dual_write":
        return True
    states = found["namespaces"]
    open_ = states.get("waiting", 0) + states.get("backfilling", 0)
    return bool(found["phase"] == "backfill" and open_ and not found["paused"])


def start(migration: Id = None, timeout_s: Wait = 120.0, as_json: AsJson = False) -> None:
    """Turn dual-write on; the backfill follows by itself."""
    _ask("start", migration, timeout_s, as_json=as_json)


def change(
    migration: Id = None,
    share: Annotated[float | None, typer.Option(help="Part of the provider's rate.")] = None,
    order: Annotated[str | None, typer.Option(help="most_read or smallest.")] = None,
    sample: Annotated[int | None, typer.Option(help="Memories that verify embeds again.")] = None,
    queries: Annotated[int | None, typer.Option(help="Shadow reads of a verify.")] = None,
    adapter: Annotated[bool | None, typer.Option(help="Read early through an adapter.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change options, also while the backfill runs."""
    given = {
        "share": share,
        "order": order,
        "sample": sample,
        "queries": queries,
        "adapter": adapter,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise UsageError("usage", "There is nothing to change.", cure="See `engram migrate set -h`")
    with open_client() as client:
        found = _found(client, migration)
        found = client.request("PATCH", f"{_ROUTE}/{found['id']}", body=changes)
    output.show(found, as_json=as_json, people=lambda: migrate_shown.status(found))


def pause(migration: Id = None, as_json: AsJson = False) -> None:
    """Hold the backfill; what is written now still reaches both spaces."""
    _ask("pause", migration, 0, as_json=as_json)


def resume(migration: Id = None, as_json: AsJson = False) -> None:
    """Let the backfill go on."""
    _ask("resume", migration, 0, as_json=as_json)


def verify(
    migration: Id = None,
    workspace: InWorkspace = None,
    namespace: InNamespaces = None,
    judged: Annotated[
        Path | None, typer.Option(help="JSON lines of query, namespace and relevant ids.")
    ] = None,
    timeout_s: Wait = 3_600.0,
    as_json: AsJson = False,
) -> None:
    """Hold the new space against the old one; ends with 1 when a namespace did not pass."""
    body = _choice(workspace, namespace)
    if judged is not None:
        body["judged"] = _judged(judged)
    found = _ask("verify", migration, timeout_s, body, as_json=as_json)
    if found["namespaces"].get("failed"):
        raise typer.Exit(1)


def cutover(
    migration: Id = None,
    workspace: InWorkspace = None,
    namespace: InNamespaces = None,
    timeout_s: Wait = 3_600.0,
    as_json: AsJson = False,
) -> None:
    """Read the new space, namespace by namespace; both are still written."""
    _ask("cutover", migration, timeout_s, _choice(workspace, namespace), as_json=as_json)


def rollback(migration: Id = None, timeout_s: Wait = 120.0, as_json: AsJson = False) -> None:
    """Read the old space again; nothing that was written since is lost."""
    _ask("rollback", migration, timeout_s, as_json=as_json)


def release(migration: Id = None, timeout_s: Wait = 600.0, as_json: AsJson = False) -> None:
    """Drop the old space; there is no way back after it."""
    _ask("release", migration, timeout_s, as_json=as_json)


def abort(migration: Id = None, timeout_s: Wait = 600.0, as_json: AsJson = False) -> None:
    """Give the migration up and drop the new space."""
    _ask("abort", migration, timeout_s, as_json=as_json)


def _ask(
    verb: str,
    migration: str | None,
    timeout_s: float,
    body: dict[str, Any] | None = None,
    *,
    as_json: bool,
) -> dict[str, Any]:
    """Ask for a verb and wait until the migrator has done it, or refused it."""
    with open_client() as client:
        found = _found(client, migration, of=verb)
        found = client.request("POST", f"{_ROUTE}/{found['id']}/{verb}", body=body or {})
        found = _granted(client, found, verb, timeout_s)
    output.show(found, as_json=as_json, people=lambda: migrate_shown.status(found))
    return found


def _granted(client: Client, found: dict[str, Any], verb: str, timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while found["wish"] == verb:
        if time.monotonic() > deadline:
            raise UnavailableError(
                "migrator_not_done",
                f"The migrator has not done {verb} yet.",
                cure="See that a migrator runs (`engram doctor`); it goes on by itself.",
            )
        time.sleep(_LOOK_S)
        found = client.request("GET", f"{_ROUTE}/{found['id']}")
    problem = found["error"]
    if problem is not None and problem.get("verb") == verb:
        raise ConflictError(problem["code"], problem["detail"], cure=problem["cure"])
    return found


def _found(client: Client, migration: str | None, of: str = "") -> dict[str, Any]:
    """Return the migration that is meant: the one named, the one under way, or the newest."""
    if migration is not None:
        found: dict[str, Any] = client.request("GET", f"{_ROUTE}/{quote(migration, safe='')}")
        return found
    listed: list[dict[str, Any]] = client.request("GET", _ROUTE)["items"]
    under_way = [item for item in listed if item["phase"] in _UNDER_WAY]
    planned = [item for item in listed if item["phase"] == "planned"]
    meant = (planned or under_way) if of == "start" else (under_way or listed)
    if not meant:
        raise NotFoundError(
            "migration_not_found",
            "There is no migration yet.",
            cure="Plan one: engram migrate plan --to SPACE.",
        )
    return meant[0]


def _choice(workspace: str | None, namespaces: list[str] | None) -> dict[str, Any]:
    given = {"workspace": workspace, "namespaces": namespaces or None}
    return {name: value for name, value in given.items() if value is not None}


def _judged(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(
            "judged_unreadable",
            f"The judged queries cannot be read ({type(error).__name__}).",
            cure='Write one {"query": …, "namespace": …, "relevant": [ids]} on each line.',
        ) from None
