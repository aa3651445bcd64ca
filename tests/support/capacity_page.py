"""Holds docs/scaling.md against the figures of ``engram bench capacity``, and against itself.

Run as ``python -m tests.support.capacity_page FIGURES.jsonl``; ends with 1 when they differ.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.meta.checkout import code, rows, text

PAGE = "docs/scaling.md"
_SIZES = {"k": 1e3, "M": 1e6, "B": 1e9}
_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}
# A projection is rounded to two digits.
_ROUNDING = 0.06


@dataclass(frozen=True, slots=True)
class Unit:
    """What the page says one memory takes.

    Attributes:
        factor: how many times more or less a measurement may be.
    """

    figure: str
    value: float
    unit: str
    factor: float

    def agrees(self, measured: float) -> bool:
        """Say whether a measurement is what the page says, as far as it says it."""
        return self.value / self.factor <= measured <= self.value * self.factor


def units(page: str) -> dict[str, Unit]:
    """Return the table of unit figures, by name: rows of figure, value, unit and ``x 1.3``."""
    found = {}
    for row in rows(page):
        if len(row) >= 4 and (allowed := re.fullmatch(r"x ([0-9.]+)", row[3])):
            value = float(row[1].replace(",", ""))
            found[code(row[0])] = Unit(code(row[0]), value, row[2], float(allowed[1]))
    return found


def differences(page: str, measured: Mapping[str, float]) -> list[str]:
    """Return where the page and the measurements differ, in sentences."""
    told = [
        f"{unit.figure}: the page says {unit.value:g} {unit.unit}, measured {measured[name]:g}"
        for name, unit in units(page).items()
        if name in measured and not unit.agrees(measured[name])
    ]
    return told + [f"{name}: not measured" for name in units(page) if name not in measured]


def projections(page: str) -> list[tuple[float, dict[str, float]]]:
    """Return the rows of the table of sizes: memories, and bytes by column."""
    head = re.search(r"^\| memories \|(.*)\|$", page, flags=re.MULTILINE)
    assert head, "the page has no table of sizes"
    names = [cell.strip() for cell in head[1].split("|")]
    return [
        (count, {name: number(cell) for name, cell in zip(names, row[1:], strict=True)})
        for row in rows(page)
        if (count := _count(code(row[0]))) and len(row) == len(names) + 1
    ]


def number(cell: str) -> float:
    """Return the bytes that a cell such as ``1.1 GB`` tells."""
    value, unit = cell.split()
    return float(value.replace(",", "")) * _UNITS[unit]


def _count(cell: str) -> float:
    found = re.fullmatch(r"(\d+)([kMB])", cell)
    return int(found[1]) * _SIZES[found[2]] if found else 0.0


def contradictions(page: str, parts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return where a projection is not the sum of its unit figures times the count."""
    known, told = units(page), []
    for count, sizes in projections(page):
        for name, figures in parts.items():
            expected = count * sum(known[figure].value for figure in figures)
            if abs(sizes[name] / expected - 1) > _ROUNDING:
                told.append(f"{count:g} {name}: {sizes[name]:.3g}, not {expected:.3g} bytes")
    return told


# What each column of the table of sizes is made of.
PARTS = {
    "rows and their indexes": ("memory, table", "memory, indexes"),
    "vectors of one space": ("vector of 1,024 numbers, table", "vector of 1,024 numbers, keys"),
    "its HNSW indexes": ("vector of 1,024 numbers, hnsw",),
    "log written by importing": ("write-ahead log, imported",),
}


def main(arguments: Sequence[str]) -> int:
    """Compare the page with a file of figures; return the exit code."""
    lines = Path(arguments[0]).read_text(encoding="utf-8").splitlines()
    measured = {line["figure"]: line["value"] for line in map(json.loads, lines)}
    page = text(PAGE)
    told = [*differences(page, measured), *contradictions(page, PARTS)]
    sys.stdout.writelines(f"{PAGE}: {one}\n" for one in told)
    if not told:
        sys.stdout.write(f"{PAGE} agrees with {len(units(page))} figures.\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
