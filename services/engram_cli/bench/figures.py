"""What a benchmark prints: figures with their floor and target, as JSON lines or as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from engram.errors import UsageError
from engram_cli import output


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: its ratio where it has one, else its value."""

    bound: float
    at_most: bool = False

    def met_by(self, judged: float) -> bool:
        """Say whether a ratio or value reaches it."""
        return judged <= self.bound if self.at_most else judged >= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: one line of JSON, one row of the table.

    Attributes:
        floor: what the same machine does without engram in the same run, in the same unit.
        ratio: value through floor, or as the benchmark's page says.
        met: whether the target is reached; None without one.
        params: what the figure was measured with.
    """

    bench: str
    figure: str
    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    target: float | None = None
    met: bool | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Results:
    """Takes the figures of one run: writes JSON at once, or a table at the end."""

    bench: str
    as_json: bool
    figures: list[Figure] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(
        self,
        figure: str,
        value: float,
        unit: str,
        *,
        floor: float | None = None,
        ratio: float | None = None,
        target: Target | None = None,
        **params: Any,
    ) -> None:
        """Take one figure; with a floor and no ratio, the ratio is value / floor."""
        if ratio is None and floor:
            ratio = value / floor
        judged = value if ratio is None else ratio
        self._take(
            Figure(
                *(self.bench, figure, round(value, 4), unit),
                floor=None if floor is None else round(floor, 4),
                ratio=None if ratio is None else round(ratio, 4),
                target=None if target is None else target.bound,
                met=None if target is None else target.met_by(judged),
                params=params,
            )
        )

    def checked(self, rows: int, unit: str, faults: Sequence[str], **params: Any) -> None:
        """Take the outcome of the check of what is in the database."""
        self.faults += faults
        found = list(faults)
        self._take(
            Figure(
                *(self.bench, "stored data is right", rows, unit),
                met=not found,
                params={**params, "faults": found},
            )
        )

    def _take(self, figure: Figure) -> None:
        self.figures.append(figure)
        if self.as_json:
            output.print_json(asdict(figure))

    def finish(self) -> int:
        """Write the table for people; return the exit code: 1 when stored data is wrong."""
        if not self.as_json:
            # What each was measured with is in the JSON: a table as wide would be read by nobody.
            columns = ("figure", "value", "unit", "floor", "ratio", "target", "met")
            output.table(columns, (_cells(figure) for figure in self.figures), empty="Nothing.")
        for fault in self.faults:
            output.note(f"Stored data is wrong: {fault}")
        return 1 if self.faults else 0


def _cells(figure: Figure) -> list[object]:
    met = {None: None, True: "yes", False: "NO"}[figure.met]
    judged = (_number(number) for number in (figure.floor, figure.ratio, figure.target))
    return [figure.figure, _number(figure.value), figure.unit, *judged, met]


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.3g}"


def is_quick(arguments: Sequence[str]) -> bool:
    """Read a benchmark's own arguments; ``--quick`` is the only one.

    Raises:
        UsageError: anything else was given.
    """
    unknown = [argument for argument in arguments if argument != "--quick"]
    if unknown:
        raise UsageError(
            "usage", f"Unknown argument {unknown[0]!r}.", cure="A benchmark takes --quick only."
        )
    return bool(arguments)


class Step(Protocol):
    """Called with how far a step is now."""

    def __call__(self, done: float) -> None:
        """Show it."""


@contextmanager
def progress(what: str, total: float | None = None) -> Iterator[Step]:
    """Show a bar on a terminal's standard error while inside; elsewhere nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = output.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(what, total=total)

        def show(done: float) -> None:
            bar.update(task, completed=done)

        yield show


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed.

    The nearest-rank definition: always one of the values, never between two.
    """
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]
