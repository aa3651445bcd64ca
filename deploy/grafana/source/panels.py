"""What a dashboard is made of, and how it becomes Grafana's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef

# As provisioned in deploy/grafana/provisioning.
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_COLUMNS = 24
_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel.

    Attributes:
        expr: PromQL; `$__rate_interval` is Grafana's.
        legend: how a series is named, with `{{label}}`.
    """

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        unit: Grafana's name of it, such as `s` or `percentunit`.
        width: of 24 columns.
        kind: a course over time, or the newest value as a number.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    kind: Literal["course", "number"] = "course"
    ceiling: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a common heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; its file and uid are `engram-<name>`."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]


def course(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """Return a panel that draws its queries over time."""
    return Panel(title, description, unit, queries, **more)


def number(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """Return a panel that shows the newest value."""
    return Panel(title, description, unit, queries, **{"width": 4, **more}, kind="number")


def rendered(board: Board) -> str:
    """Return the file of a dashboard, with a line break at its end."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"engram-{board.name}")
        .description(board.description)
        .tags(["engram"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .readonly()
        .link(
            dashboard.DashboardLink("engram")
            .type("dashboards")
            .tags(["engram"])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
    )
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(_built(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _built(panel: Panel) -> Any:
    built = _number() if panel.kind == "number" else _course()
    built = (
        built.title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(min(panel.width, _COLUMNS))
        .height(_HEIGHT)
        .min(0)
    )
    if panel.ceiling is not None:
        built = built.max(panel.ceiling)
    for index, query in enumerate(panel.queries):
        built = built.with_target(
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + index))
            .datasource(SOURCE)
            .expr(query.expr)
            .legend_format(query.legend)
        )
    return built


def _course() -> timeseries.Panel:
    return (
        timeseries.Panel()
        .draw_style(GraphDrawStyle.LINE)
        .fill_opacity(10)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )


def _number() -> stat.Panel:
    return stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
