"""``engram doctor``: what is wrong with this installation, each finding with its cure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import typer

from engram.errors import EngramError
from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram.serving.operations import Finding as Judged

Verdict = Literal["ok", "warning", "failure"]
_STYLES: Final = {"ok": "green", "warning": "yellow", "failure": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        check: what was looked at.
        verdict: ok, warning (works, but not as it could) or failure.
        detail: what was found.
        cure: what to do about it.
    """

    check: str
    verdict: Verdict
    detail: str
    cure: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Look for what is wrong here: settings, data directory, servers and key."""
    findings = [finding for check in CHECKS for finding in check()]
    failed = any(finding.verdict == "failure" for finding in findings)

    def people() -> None:
        for finding in findings:
            output.line(
                f"{finding.verdict:8} {finding.check}: {finding.detail}", _STYLES[finding.verdict]
            )
            if finding.cure:
                output.line(f"         {finding.cure}")

    answer = {"healthy": not failed, "findings": [asdict(finding) for finding in findings]}
    output.show(answer, as_json=as_json, people=people)
    if failed:
        raise typer.Exit(1)


def check_settings() -> Iterator[Finding]:
    """Are all ENGRAM_* variables known and well-formed."""
    from engram.settings import load

    try:
        load()
    except EngramError as error:
        yield _failure("settings", error)
    else:
        yield Finding("settings", "ok", "every ENGRAM_* variable is known and fits")


def check_data_dir() -> Iterator[Finding]:
    """Can the data directory be used, and does only its owner read the key."""
    from engram_cli.runtime.datadir import CREDENTIALS_FILE, default_data_dir

    folder = default_data_dir()
    if not folder.exists():
        yield Finding("data directory", "ok", f"{folder} is not there yet; `engram up` makes it")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        cure = "Give it to this user, or set ENGRAM_DATA_DIR."
        yield Finding("data directory", "failure", f"{folder} cannot be written", cure)
        return
    yield Finding("data directory", "ok", f"{folder} can be written")
    credentials = folder / CREDENTIALS_FILE
    if credentials.exists() and credentials.stat().st_mode & 0o077:
        cure = f"chmod 600 {credentials}"
        yield Finding("credentials", "failure", "other users can read the stored key", cure)


def check_server() -> Iterator[Finding]:
    """Is the server reachable, and the key valid."""
    from engram.backoff import Backoff
    from engram.client import Client
    from engram_cli.credentials import resolve_target

    try:
        target = resolve_target()
        with Client(target.url, target.api_key, 5.0, backoff=Backoff(attempts=1)) as client:
            workspace = client.workspace()
    except EngramError as error:
        yield _failure("server and key", error)
        return
    detail = f"{target.url} knows the key of workspace {workspace['name']}"
    yield Finding("server and key", "ok", detail)


def check_readiness() -> Iterator[Finding]:
    """What the service says of itself, and what its picture of the pipeline shows."""
    from engram_cli.credentials import resolve_target
    from engram_cli.health import readiness

    try:
        target = resolve_target()
    except EngramError:
        return  # told by check_server
    health = readiness(target.ops_url)
    for found in health["findings"]:
        verdict: Verdict = "warning" if found.get("severity") == "warning" else "failure"
        yield Finding(f"readiness: {found['check']}", verdict, found["detail"], found["cure"])
    if health["ready"]:
        yield Finding("readiness", "ok", health["detail"])
        yield from _pipeline_findings(target.ops_url)
    elif not health["findings"]:
        cure = "See the service's log; set ENGRAM_OPS_PORT if it is elsewhere."
        yield Finding("readiness", "failure", health["detail"], cure)


def _pipeline_findings(ops_url: str) -> Iterator[Finding]:
    from engram_cli.pipeline_look import fetch, troubles

    picture = fetch(ops_url)
    if picture is None:
        return
    found = troubles(picture)
    for trouble in found:
        verdict: Verdict = "failure" if trouble.grave else "warning"
        yield Finding(f"pipeline: {trouble.stage}", verdict, trouble.detail, trouble.cure)
    if not found:
        yield Finding("pipeline", "ok", "nothing is late, refused or given up")


def check_postgres() -> Iterator[Finding]:
    """Does PostgreSQL answer, when one is set."""
    from engram_cli.health import postgres_fault

    yield from _probe("database", "ENGRAM_DATABASE_URL", postgres_fault)


def check_nats() -> Iterator[Finding]:
    """Does NATS answer, when one is set."""
    from engram_cli.health import nats_fault

    yield from _probe("nats", "ENGRAM_NATS_URL", nats_fault)


def check_store() -> Iterator[Finding]:
    """Is the database as this version needs it, and its login no more than it should be."""
    from engram_cli.doctor_servers import store_findings
    from engram_cli.health import postgres_fault

    yield from _judged("store", "ENGRAM_DATABASE_URL", postgres_fault, store_findings)


def check_streams() -> Iterator[Finding]:
    """Are the streams there, led and not full."""
    from engram_cli.doctor_servers import stream_findings
    from engram_cli.health import nats_fault

    yield from _judged("streams", "ENGRAM_NATS_URL", nats_fault, stream_findings)


CHECKS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    check_settings,
    check_data_dir,
    check_server,
    check_readiness,
    check_postgres,
    check_nats,
    check_store,
    check_streams,
)


def _probe(check: str, variable: str, fault_of: Callable[[str], str]) -> Iterator[Finding]:
    url = os.environ.get(variable)
    if not url:
        return
    fault = fault_of(url)  # the URL holds a password, so it is never shown
    if fault:
        yield Finding(check, "failure", fault, f"Check {variable} and that the server runs.")
    else:
        yield Finding(check, "ok", f"the server at {variable} answers")


def _judged(
    check: str,
    variable: str,
    fault_of: Callable[[str], str],
    judge: Callable[[str], Coroutine[Any, Any, Sequence[Judged]]],
) -> Iterator[Finding]:
    """Tell what a server that answers is found to lack."""
    url = os.environ.get(variable)
    if not url or fault_of(url):
        return
    try:
        found = asyncio.run(judge(url))
    except EngramError as error:
        yield _failure(check, error)
        return
    for one in found:
        verdict: Verdict = "warning" if one.severity == "warning" else "failure"
        yield Finding(f"{check}: {one.check}", verdict, one.detail, one.cure)
    if not found:
        yield Finding(check, "ok", f"what {variable} names is as it should be")


def _failure(check: str, error: EngramError) -> Finding:
    return Finding(check, "failure", error.detail, error.cure)
