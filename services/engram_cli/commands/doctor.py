"""``engram doctor``: what is wrong with this installation, each finding with its cure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

import typer

from engram.errors import EngramError
from engram_cli import output
from engram_cli.options import AsJson

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
    """Is the server reachable, the key valid, and the service ready."""
    from engram.backoff import Backoff
    from engram.client import Client
    from engram_cli.credentials import resolve_target
    from engram_cli.health import readiness

    try:
        target = resolve_target()
        with Client(target.url, target.api_key, 5.0, backoff=Backoff(attempts=1)) as client:
            workspace = client.workspace()
    except EngramError as error:
        yield _failure("server and key", error)
        return
    detail = f"{target.url} knows the key of workspace {workspace['name']}"
    yield Finding("server and key", "ok", detail)
    health = readiness(target.ops_url)
    cure = (
        "" if health["ready"] else "See the service's log; set ENGRAM_OPS_PORT if it is elsewhere."
    )
    yield Finding("readiness", "ok" if health["ready"] else "failure", health["detail"], cure)


def check_postgres() -> Iterator[Finding]:
    """Does PostgreSQL answer, when one is set."""
    from engram_cli.health import postgres_fault

    yield from _probe("database", "ENGRAM_DATABASE_URL", postgres_fault)


def check_nats() -> Iterator[Finding]:
    """Does NATS answer, when one is set."""
    from engram_cli.health import nats_fault

    yield from _probe("nats", "ENGRAM_NATS_URL", nats_fault)


CHECKS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    check_settings,
    check_data_dir,
    check_server,
    check_postgres,
    check_nats,
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


def _failure(check: str, error: EngramError) -> Finding:
    return Finding(check, "failure", error.detail, error.cure)
