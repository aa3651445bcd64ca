"""Watches what may grow under a steady load: the memory of services, and the outbox."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from engram_cli.bench.processes import pids_of
from engram_cli.bench.stack import Stack
from engram_cli.services import SERVICES

_LOOK_S: Final = 1.0
# Pools open, caches fill and code is loaded first: that is no leak.
_WARM_UP_SHARE: Final = 0.25


class Growth:
    """Looks once a second.

    Attributes:
        most_lines: of the outbox at any look.
        last_lines: of the outbox at the last one.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._samples: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self.most_lines = 0
        self.last_lines = 0

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            for service in SERVICES:
                pids = pids_of(self._stack.pid, service)
                if pids:
                    self._samples[service].append((time.monotonic(), rss_mb(pids)))
            found = await self._stack.row("SELECT count(*) AS lines FROM engram.outbox")
            self.last_lines = int(found["lines"])
            self.most_lines = max(self.most_lines, self.last_lines)
            await asyncio.sleep(_LOOK_S)

    def slopes(self) -> dict[str, tuple[float, float]]:
        """Return the MB a minute that each service grew, and its MB at the end; after a warm-up."""
        return {
            service: (slope_mb_per_min(samples), samples[-1][1])
            for service, samples in self._samples.items()
        }


def rss_mb(pids: Sequence[int]) -> float:
    """Return the memory these processes hold, in MB; one that has ended holds none."""
    return sum(_rss_bytes(pid) for pid in pids) / 1_000_000


def _rss_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((one for one in status.splitlines() if one.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) * 1024


def slope_mb_per_min(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of least squares of (seconds, MB), the first quarter left out."""
    kept = samples[int(len(samples) * _WARM_UP_SHARE) :]
    if len(kept) < 2:
        return 0.0
    seconds, sizes = np.array(kept).T
    return float(60 * np.polyfit(seconds - seconds[0], sizes, 1)[0])
