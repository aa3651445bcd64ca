"""``engram schedule``: the sweeps of the system, how often they are due and how they went."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.options import AsJson, open_client

_ROUTE = "/v1/schedules"
_COLUMNS = ("name", "every", "on", "last started", "outcome", "duration", "next due")
_UNITS_S = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_EVERY = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A sweep as `list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="See and change when sweeps run.", no_args_is_help=True)
    group.command("list")(list_schedules)
    group.command("set")(set_schedule)
    group.command("run")(run_schedule)
    group.command("off")(switch_off)
    group.command("on")(switch_on)
    app.add_typer(group, name="schedule")


def list_schedules(as_json: AsJson = False) -> None:
    """List the sweeps: how often they are due, how the last run went, when the next one is."""
    with open_client() as client:
        found = client.request("GET", _ROUTE)
    _show(found, found["items"], as_json=as_json)


def set_schedule(
    name: Name,
    every: Annotated[str, typer.Option(help="How often: 45s, 30min, 12h, 1d or 2w.")],
    as_json: AsJson = False,
) -> None:
    """Change how often a sweep is due."""
    _change(name, {"every_s": _seconds(every)}, as_json=as_json)


def run_schedule(
    name: Name,
    now: Annotated[str, typer.Argument(metavar="[now]", help="There is no other time.")] = "now",
    as_json: AsJson = False,
) -> None:
    """Make a sweep due now; a curator takes it within a second."""
    if now != "now":
        raise UsageError("usage", "A sweep can be run now only.", cure="engram schedule run NAME")
    with open_client() as client:
        found = client.request("POST", f"{_ROUTE}/{quote(name, safe='')}/run")
    _show(found, [found], as_json=as_json)


def switch_off(name: Name, as_json: AsJson = False) -> None:
    """Switch a sweep off: it is not run, however due, until it is switched on."""
    _change(name, {"enabled": False}, as_json=as_json)


def switch_on(name: Name, as_json: AsJson = False) -> None:
    """Switch a sweep on."""
    _change(name, {"enabled": True}, as_json=as_json)


def _change(name: str, change: dict[str, Any], *, as_json: bool) -> None:
    with open_client() as client:
        found = client.request("PATCH", f"{_ROUTE}/{quote(name, safe='')}", body=change)
    _show(found, [found], as_json=as_json)


def _show(value: Any, sweeps: list[dict[str, Any]], *, as_json: bool) -> None:
    output.show(
        value,
        as_json=as_json,
        people=lambda: output.table(
            _COLUMNS, [_row(sweep) for sweep in sweeps], empty="No curator has run yet."
        ),
    )


def _row(sweep: dict[str, Any]) -> list[object]:
    took = sweep["last_duration_s"]
    outcome = sweep["last_error"] or sweep["last_outcome"]
    return [
        sweep["name"],
        _interval(sweep["every_s"]),
        "yes" if sweep["enabled"] else "no",
        sweep["last_started"],
        "running" if sweep["running"] else outcome,
        None if took is None else f"{took:.2f} s",
        sweep["next_due"] if sweep["enabled"] else None,
    ]


def _interval(every_s: float) -> str:
    for unit in ("w", "d", "h", "min"):
        if every_s >= _UNITS_S[unit] and every_s % _UNITS_S[unit] == 0:
            return f"{every_s / _UNITS_S[unit]:.0f}{unit}"
    return f"{every_s:g}s"


def _seconds(every: str) -> float:
    found = _EVERY.fullmatch(every.strip())
    if found is None:
        raise UsageError(
            "usage", f"{every} is no interval.", cure="Write 45s, 30min, 12h, 1d or 2w."
        )
    return float(found[1]) * _UNITS_S[found[2]]
