"""Draws the pipeline for a terminal: from what comes in to vectors, with counts, lags and rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engram_cli import output
from engram_cli.pipeline_look import (
    BULK_LATE_S,
    LANE_STALLED_S,
    LOW_SHARE,
    OUTBOX_LATE_S,
    Picture,
)

if TYPE_CHECKING:
    from rich.table import Table

_BAD: Final = "red"
_LATE: Final = "yellow"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what, how many, how old the oldest is, how many a second."""

    what: str
    count: str = ""
    lag: str = ""
    rate: str = ""
    style: str = ""


def draw(picture: Picture, rates: Mapping[str, float], *, arrow: str = "▼") -> Table:
    """Return the picture as a table of rich, its stages joined by arrows."""
    from rich.table import Table

    grid = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(("stage", "", "count", "lag", "per second")):
        grid.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    stages = list(_stages(picture, rates))
    for number, (stage, rows) in enumerate(stages):
        for place, row in enumerate(rows):
            cells = (stage if place == 0 else "", row.what, row.count, row.lag, row.rate)
            grid.add_row(*(output.plain(cell, row.style) for cell in cells))
        flows = number + 1 < len(stages) and stages[number + 1][0] not in _ASIDE
        if stage not in _ASIDE:
            grid.add_row(output.plain(f"  {arrow}" if flows else "", "dim"))
    return grid


_ASIDE: Final = ("dead letters", "sweeps")


def _stages(picture: Picture, rates: Mapping[str, float]) -> Iterator[tuple[str, Sequence[Row]]]:
    yield "in", _doors(picture, rates)
    yield "outbox", [_outbox(picture["outbox"], rates)]
    yield "lanes", [row for space in picture["spaces"] for row in _lanes(space)]
    yield "provider", [row for space in picture["spaces"] for row in _provider(space, picture)]
    yield "vectors", [row for space in picture["spaces"] for row in _vectors(space, rates)]
    yield "dead letters", _letters(picture)
    yield "sweeps", [_sweep(sweep) for sweep in picture["sweeps"]] or [Row("none yet")]


def _doors(picture: Picture, rates: Mapping[str, float]) -> list[Row]:
    stored = picture["in"]
    sign = "~" if stored["estimated"] else ""
    rows = [Row("memories", f"{sign}{stored['memories']:,}", "", _rate(rates.get("in")))]
    return [*rows, *_lane("commands waiting", stored["commands"])]


def _outbox(outbox: Mapping[str, Any], rates: Mapping[str, float]) -> Row:
    style = _BAD if outbox["oldest_s"] > OUTBOX_LATE_S else ""
    rate = _rate(rates.get("published"))
    return Row("events to publish", f"{outbox['lines']:,}", _age(outbox["oldest_s"]), rate, style)


def _lanes(space: Mapping[str, Any]) -> list[Row]:
    key, bulk = space["space"], space["bulk"]
    late = _LATE if bulk["oldest_s"] > BULK_LATE_S else ""
    return [
        *_lane(f"{key} live", space["live"]),
        Row(f"{key} bulk", f"{bulk['waiting']:,}", _age(bulk["oldest_s"]), "", late),
    ]


def _lane(what: str, lane: Mapping[str, Any]) -> list[Row]:
    if "error" in lane:
        return [Row(what, "?", style=_BAD)]
    again = f" ({lane['redelivered']:,} again)" if lane["redelivered"] else ""
    style = _BAD if lane["stalled_s"] > LANE_STALLED_S else ""
    count = f"{lane['pending']:,} + {lane['in_flight']:,}{again}"
    return [Row(what, count, _age(lane["stalled_s"]), "", style)]


def _provider(space: Mapping[str, Any], picture: Picture) -> list[Row]:
    share = next(
        (
            found["share"]
            for found in picture["providers"]
            if (found["provider"], found["model"]) == (space["provider"], space["model"])
        ),
        None,
    )
    name = f"{space['provider']}:{space['model']}"
    quota = "no quota" if share is None else f"{share:.0%} of quota"
    style = _LATE if share is not None and share < LOW_SHARE else ""
    rows = [Row(name, "refuses us" if space["refused"] else quota, "", "", style)]
    style = _BAD if space["refused"] else _LATE
    retried = space["retrying"].items()
    return rows + [
        Row(f"  tried again: {kind}", f"{count:,}", "", "", style) for kind, count in retried
    ]


def _vectors(space: Mapping[str, Any], rates: Mapping[str, float]) -> list[Row]:
    key = space["space"]
    rows = [Row(key, f"{space['vectors']:,}", "", _rate(rates.get(key)))]
    dead = space["dead"]
    return [*rows, Row(f"{key} given up", f"{dead:,}", "", "", _LATE)] if dead else rows


def _letters(picture: Picture) -> list[Row]:
    kinds = picture["dead_letters"].items()
    return [Row(kind, f"{count:,}", "", "", _LATE) for kind, count in kinds] or [Row("", "0")]


def _sweep(sweep: Mapping[str, Any]) -> Row:
    due = sweep["due_in_s"]
    when = "off"
    if sweep["running"]:
        when = "running"
    elif sweep["enabled"]:
        when = f"in {_age(due)}" if due > 0 else f"due {_age(-due)}"
    took = sweep["last_duration_s"]
    last = "never ran" if took is None else f"took {_age(took)}"
    style = _BAD if sweep["late"] else _LATE if sweep["last_error"] else ""
    return Row(sweep["name"], "failed" if sweep["last_error"] else last, when, "", style)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.1f}"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s"
