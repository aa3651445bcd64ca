"""The measured process of ``engram bench dedup``: one join with one BLAS thread, and its floor."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.pairs.few import apart
from engram.domain.pairs.join import prepare
from engram_cli.bench.dedup_vectors import Halves, Kind, vectors
from engram_cli.bench.rss_child import peak_bytes

Pairs = NDArray[np.int64]
"""(m, 2) rows i < j."""

# Every hundredth row, spread evenly, has not been compared before.
_NEW_EVERY: Final = 100
# Namespaces are made a few at a time: how many vectors there are is not what is measured.
_DISTINCT_NAMESPACES: Final = 50
_CHECK_COLUMNS: Final = 2_048
_FLOOR_ROWS: Final = 4_096
_FLOOR_ROUNDS: Final = 3
_NO_PAIRS: Final = np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure.

    Attributes:
        rows: of each namespace.
        new_only: only pairs with one of the 1 % new rows.
        checked_rows: rows whose pairs are compared with a plain float64 product.
        namespaces: how many are joined, one after another.
    """

    kind: Kind
    rows: int
    threshold: float
    new_only: bool = False
    checked_rows: int = 0
    namespaces: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What the joins took.

    Attributes:
        floor_cpu_s, floor_wall_s: of the products of all pairs at the best rate this process
            reached with float32 matrices of 4,096 rows, before or after.
        sketch: numbers in a sketch, 0 when it was plain GEMM.
        peak_mb: resident memory at its highest, vectors and Python included.
        wrong: of the checked rows, pairs that the plain product lacks or has besides.
    """

    cpu_s: float
    wall_s: float
    floor_cpu_s: float
    floor_wall_s: float
    pairs: int
    sketch: int
    peak_mb: float
    wrong: int


def measure(task: Task) -> Measured:
    """Join; then measure the floor again and check the pairs."""
    stored = vectors(task.kind, task.rows * min(task.namespaces, _DISTINCT_NAMESPACES))
    new = np.arange(task.rows) % _NEW_EVERY == 0 if task.new_only else None
    rates = [_floor_rates(stored)]
    started = time.process_time(), time.perf_counter()
    pairs, sketch, found = _joined(stored, task, new)
    cpu_s, wall_s = time.process_time() - started[0], time.perf_counter() - started[1]
    peak_mb = peak_bytes() / 1_000_000
    rates.append(_floor_rates(stored))
    products = task.rows * (task.rows - 1) / 2 * task.namespaces
    floor_cpu_s, floor_wall_s = (products / max(both) for both in zip(*rates, strict=True))
    wrong = _wrong(stored, task, new, found) if task.checked_rows else 0
    return Measured(cpu_s, wall_s, floor_cpu_s, floor_wall_s, pairs, sketch, peak_mb, wrong)


def _joined(stored: Halves, task: Task, new: NDArray[np.bool_] | None) -> tuple[int, int, Pairs]:
    """Return the number of pairs, the size of the sketch, and the pairs if they are checked."""
    count, sketch, kept = 0, 0, [_NO_PAIRS]
    for number in range(task.namespaces):
        start = number % _DISTINCT_NAMESPACES * task.rows
        rows = stored[start : start + task.rows]
        if apart(rows, task.threshold, new):
            continue
        join = prepare(rows, task.threshold, new=new)
        sketch = join.size
        for chunk in join.pairs():
            count += len(chunk.i)
            if task.checked_rows:
                kept.append(np.stack((chunk.i, chunk.j), axis=1))
    return count, sketch, np.concatenate(kept)


def _floor_rates(stored: Halves) -> tuple[float, float]:
    """Return pairs a second of CPU, and of time, in a float32 GEMM of its favourite shape."""
    left = stored[:_FLOOR_ROWS].astype(np.float32)
    # A matrix of its own: numpy does only half of the work of a product with itself.
    right = left.copy()
    out = np.empty((len(left), len(left)), dtype=np.float32)

    def best(clock: Callable[[], float]) -> float:
        taken = []
        for _ in range(_FLOOR_ROUNDS):
            started = clock()
            np.matmul(left, right.T, out=out)
            taken.append(clock() - started)
        return len(left) ** 2 / min(taken)

    return best(time.process_time), best(time.perf_counter)


def _wrong(stored: Halves, task: Task, new: NDArray[np.bool_] | None, found: Pairs) -> int:
    """Count pairs of the checked rows that only one of the two ways has."""
    rows = np.unique(np.linspace(0, task.rows - 1, task.checked_rows).astype(np.int64))
    checked = np.zeros(task.rows, dtype=bool)
    checked[rows] = True
    plain = _plain(stored, task.threshold, rows)
    if new is not None:
        plain = plain[new[plain].any(axis=1)]
    mine = found[checked[found].any(axis=1)]
    return len({(int(i), int(j)) for i, j in plain} ^ {(int(i), int(j)) for i, j in mine})


def _plain(stored: Halves, threshold: float, rows: NDArray[np.int64]) -> Pairs:
    """Return the pairs of these rows with any other, by float64 products alone."""
    left = stored[rows].astype(np.float64)
    found = [_NO_PAIRS]
    for start in range(0, len(stored), _CHECK_COLUMNS):
        right = stored[start : start + _CHECK_COLUMNS].astype(np.float64)
        lengths = np.sqrt(np.outer((left**2).sum(axis=1), (right**2).sum(axis=1)))
        at, column = np.nonzero(left @ right.T / lengths >= threshold)
        pairs = np.stack((rows[at], start + column), axis=1)
        found.append(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1))
    return np.concatenate(found)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Task(**json.loads(sys.argv[1]))))), flush=True)
