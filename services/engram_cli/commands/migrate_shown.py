"""How migrations are shown to people: plans, lists, status with bars."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from engram_cli import output

_LIST = ("id", "phase", "source", "target", "missing", "rows", "updated")
_NAMESPACES = ("workspace", "namespace", "state", "rows", "missing", "dead")
_MISMATCHES = ("workspace", "namespace", "memory", "class", "error")
_BAR_WIDTH = 30
_DONE = {
    "backfill": ("complete", "verified", "failed", "cut_over"),
    "verify": ("verified", "cut_over"),
    "cutover": ("cut_over",),
}


def plan(found: dict[str, Any]) -> None:
    """Write a plan, what blocks it, and what comes next."""
    made = found["plan"]
    output.line(f"plan       {found['id']}")
    output.line(f"from       {made['source']}")
    output.line(f"to         {made['target']}")
    output.line(
        f"memories   {made['rows']:,} in {made['namespaces']:,} namespaces of "
        f"{made['workspaces']:,} workspaces; {made['distinct']:,} different texts"
    )
    output.line(
        f"tokens     {made['tokens']:,} ({made['tokens_per_text']:g} a text, "
        f"{made['sampled']:,} sampled), in {made['requests']:,} requests"
    )
    output.line(f"cost       {_money(made['cost_usd'])}")
    output.line(f"time       {_time(made['eta_s'])} ({made['eta_from']})")
    output.line(f"disk       {_size(made['disk_bytes'])}, indexes {_size(made['index_bytes'])}")
    for note in made["notes"]:
        output.line(f"note       {note}", "dim")
    for blocker in made["blockers"]:
        output.line(f"blocks     {blocker['detail']} [{blocker['code']}]", "red")
        output.line(f"           {blocker['cure']}", "cyan")
    if not made["blockers"]:
        output.line(f"start it   engram migrate start {found['id']}", "cyan")


def listed(found: list[dict[str, Any]]) -> None:
    """Write the list of migrations."""
    rows = [
        [
            item["id"],
            _phase(item),
            item["source"],
            item["target"],
            item["progress"].get("missing"),
            item["progress"].get("rows", item["plan"].get("rows")),
            item["updated_at"],
        ]
        for item in found
    ]
    output.table(_LIST, rows, empty="There was no migration yet.")


def status(found: dict[str, Any]) -> None:
    """Write how far a migration is."""
    for text, style in _lines(found):
        output.line(text, style)
    if "items" in found:
        rows = [[item[column] for column in _NAMESPACES] for item in found["items"]]
        output.table(_NAMESPACES, rows, empty="No namespace has been counted yet.")
    if found.get("mismatches"):
        columns = ("workspace", "namespace", "memory_id", "class", "error")
        rows = [[item[column] for column in columns] for item in found["mismatches"]]
        output.table(_MISMATCHES, rows, empty="")


@contextlib.contextmanager
def bars(*, quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Draw the status in place on a terminal; elsewhere and when quiet, nothing.

    Yields:
        A function of a migration.
    """
    from rich.console import Group
    from rich.live import Live

    console = output.console(stderr=True)
    if quiet or not console.is_terminal:
        yield _draw_nothing
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def draw(found: dict[str, Any]) -> None:
            lines = [output.plain(text, style) for text, style in _lines(found)]
            live.update(Group(*lines), refresh=True)

        yield draw


def _draw_nothing(found: dict[str, Any]) -> None:
    del found


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    progress, states = found["progress"], found["namespaces"]
    rows, missing = progress.get("rows", 0), progress.get("missing", 0)
    lines = [
        (f"migration  {found['id']}", ""),
        (f"           {found['source']} to {found['target']}", ""),
        (f"phase      {_phase(found)}", "bold"),
        (f"memories   {_bar(rows - missing, rows)} {rows - missing:,} of {rows:,}", ""),
    ]
    total = sum(states.values())
    for name, done in _DONE.items():
        count = sum(states.get(state, 0) for state in done)
        lines.append((f"{name:<10} {_bar(count, total)} {count:,} of {total:,} namespaces", ""))
    lines.append((_going(progress), ""))
    dead, failed = progress.get("dead", 0), states.get("failed", 0)
    if dead or failed:
        text = f"mismatches {dead:,} memories given up, {failed:,} namespaces not verified"
        lines.append((text, "yellow"))
    error = found["error"]
    if error is not None:
        lines.append((f"refused    {error['verb']}: {error['detail']} [{error['code']}]", "red"))
        lines.append((f"           {error['cure']}", "cyan"))
    return lines


def _going(progress: dict[str, Any]) -> str:
    rate = progress.get("rate_per_s")
    shown = "-" if rate is None else f"{rate:,.1f} memories/s"
    eta, cost = _time(progress.get("eta_s")), _money(progress.get("cost_usd"))
    return f"rate       {shown}, ETA {eta}, cost so far {cost}"


def _phase(found: dict[str, Any]) -> str:
    text = str(found["phase"])
    if found["paused"] and text in ("dual_write", "backfill"):
        text += ", paused"
    return f"{text}, to {found['wish']}" if found["wish"] else text


def _bar(done: int, total: int) -> str:
    filled = _BAR_WIDTH * done // total if total else 0
    return "█" * filled + "░" * (_BAR_WIDTH - filled)


def _money(usd: float | None) -> str:
    return "not known" if usd is None else f"${usd:,.4f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    hours, rest = divmod(round(seconds), 3_600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
