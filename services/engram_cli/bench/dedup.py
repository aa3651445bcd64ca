"""``engram bench dedup``: the pairs of one namespace against an ideal product of its vectors.

First joins alone, then with the reading of their vectors from PostgreSQL (`dedup_fetch`).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from engram.errors import UnavailableError
from engram_cli.bench import dedup_fetch
from engram_cli.bench.dedup_child import Measured, Task
from engram_cli.bench.dedup_vectors import Kind
from engram_cli.bench.figures import Results, Target, is_quick, progress

_FULL_TARGET: Final = Target(0.4, at_most=True)
_NEW_TARGET: Final = Target(0.2, at_most=True)
_PEAK_TARGET_MB: Final = Target(1_000, at_most=True)
_NAMESPACE_ROWS: Final = 100
_ISOTROPIC_THRESHOLDS: Final = (0.9, 0.8)
# As the process that joins is run: more BLAS threads spin while they wait for one another.
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        sizes: rows of a namespace, ascending; the last one carries the targets.
        thresholds: all for the last size, the first for the others.
        all_rows: up to so many rows all pairs are checked, above it those of ``some_rows``.
        isotropic: rows without any structure.
        copies: rows of a group of copies.
        namespaces: of 100 rows each.
    """

    sizes: tuple[int, ...]
    thresholds: tuple[float, ...]
    all_rows: int
    some_rows: int
    isotropic: int
    copies: int
    namespaces: int

    def checked(self, rows: int) -> int:
        """Return of how many rows all pairs are checked."""
        return rows if rows <= self.all_rows else self.some_rows


_FULL: Final = Scale((10_000, 31_600, 100_000), (0.9, 0.8), 10_000, 1_000, 31_600, 5_000, 10_000)
_QUICK: Final = Scale((5_000, 20_000), (0.9,), 5_000, 200, 10_000, 1_000, 1_000)


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when a pair is missing or wrong."""
    bench = _Bench(Results("dedup", as_json), _QUICK if is_quick(arguments) else _FULL)
    asyncio.run(bench.run())
    return bench.results.finish()


_Pass = tuple[Task, Measured]


class _Bench:
    """One run, and what its checks found."""

    def __init__(self, results: Results, scale: Scale) -> None:
        self.results = results
        self._scale = scale
        self._checked_rows = 0
        self._faults: list[str] = []

    async def run(self) -> None:
        """Measure one thing after another, each in a process of its own."""
        first = self._scale.thresholds[0]
        passes = [await self._full(rows, first) for rows in self._scale.sizes]
        self._exponent(passes)
        for threshold in self._scale.thresholds:
            full = (
                passes[-1]
                if threshold == first
                else await self._full(passes[-1][0].rows, threshold)
            )
            await self._increment(*full)
        for threshold in _ISOTROPIC_THRESHOLDS:
            await self._full(self._scale.isotropic, threshold, "isotropic")
        await self._copies(first)
        await self._namespaces(first)
        await dedup_fetch.measure(self.results, self._scale.sizes[-1], self._scale.namespaces)
        self.results.checked(self._checked_rows, "rows", self._faults)

    async def _full(self, rows: int, threshold: float, kind: Kind = "texts") -> _Pass:
        task = Task(kind, rows, threshold, checked_rows=self._scale.checked(rows))
        measured = await self._measure(task)
        judged = kind == "texts" and rows == self._scale.sizes[-1]
        self.results.add(
            f"{rows:,} {kind} at {threshold}", measured.cpu_s, "CPU s", floor=measured.floor_cpu_s,
            target=_FULL_TARGET if judged else None, **_params(measured),
        )  # fmt: skip
        if judged:
            name = f"memory of {rows:,} at {threshold}"
            self.results.add(name, measured.peak_mb, "MB", target=_PEAK_TARGET_MB)
        return task, measured

    def _exponent(self, passes: list[_Pass]) -> None:
        (small, least), (large, most) = passes[0], passes[-1]
        exponent = math.log(most.cpu_s / least.cpu_s) / math.log(large.rows / small.rows)
        name = f"exponent, {small.rows:,} to {large.rows:,}"
        cpu_s = {task.rows: round(measured.cpu_s, 3) for task, measured in passes}
        self.results.add(name, exponent, "of rows", cpu_s=cpu_s)

    async def _increment(self, task: Task, full: Measured) -> None:
        measured = await self._measure(replace(task, new_only=True))
        self.results.add(
            f"1 % new of {task.rows:,} at {task.threshold}", measured.cpu_s, "CPU s",
            floor=full.cpu_s, target=_NEW_TARGET, **_params(measured),
        )  # fmt: skip

    async def _copies(self, threshold: float) -> None:
        measured = await self._measure(Task("copies", self._scale.copies, threshold))
        name = f"{self._scale.copies:,} copies"
        peak_mb = round(measured.peak_mb)
        self.results.add(name, measured.cpu_s, "CPU s", peak_mb=peak_mb, **_params(measured))

    async def _namespaces(self, threshold: float) -> None:
        count = self._scale.namespaces
        task = Task("texts", _NAMESPACE_ROWS, threshold, namespaces=count)
        measured = await self._measure(task)
        name = f"{count:,} namespaces of {_NAMESPACE_ROWS}"
        self.results.add(
            name, measured.cpu_s, "CPU s", floor=measured.floor_cpu_s, **_params(measured)
        )

    async def _measure(self, task: Task) -> Measured:
        with progress(f"joining {task.rows:,}"):
            measured = await _in_child(task)
        self._checked_rows += task.checked_rows
        if measured.wrong:
            self._faults.append(f"{measured.wrong} wrong pairs of {task.rows} at {task.threshold}")
        return measured


def _params(measured: Measured) -> dict[str, Any]:
    """Return what a figure was measured with; the wall clock beside the CPU's."""
    return {
        "pairs": measured.pairs,
        "sketch": measured.sketch,
        "wall_s": round(measured.wall_s, 3),
        "wall_ratio": round(measured.wall_s / measured.floor_wall_s, 3),
    }


async def _in_child(task: Task) -> Measured:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engram_cli.bench.dedup_child", json.dumps(asdict(task))),
        env={**os.environ, **_ONE_THREAD},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    if child.returncode:
        raise UnavailableError("bench_join_failed", f"The join ended with {child.returncode}.")
    return Measured(**json.loads(said))
