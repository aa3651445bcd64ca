"""Part of ``engram bench import``: how long single writes and searches take beside an import."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from engram_cli.bench.connection import open_http
from engram_cli.bench.figures import Results, Target, percentile, progress
from engram_cli.bench.lanes import Times, under_load
from engram_cli.bench.stack import Stack

_WORSE: Final = Target(2.0, at_most=True)
_WARM_UP_S: Final = 2.0

Import = Callable[[Stack], Awaitable[int]]


async def measure(results: Results, stack: Stack, alone_s: float, work: Import) -> None:
    """Write and search at a fixed rate, first alone for ``alone_s`` and then beside ``work``.

    Args:
        results: takes p50 and p95 of both, with those without the import as their floor.
        stack: what is measured; its embedder works as always.
        alone_s: seconds of measuring without the import.
        work: imports something and returns how many memories that were.
    """
    async with open_http(stack) as http:
        await under_load(http, _WARM_UP_S, Times())
        alone, beside = Times(), Times()
        with progress("writes and searches alone", alone_s) as show:
            await under_load(http, alone_s, alone, show)
        started = time.perf_counter()
        with progress("beside an import"):
            done = asyncio.ensure_future(work(stack))
            while not done.done():
                await under_load(http, 1.0, beside)
        count = await done
    _report(results, alone, beside, count, time.perf_counter() - started)


def _report(results: Results, alone: Times, beside: Times, count: int, took_s: float) -> None:
    pairs = (("writes", alone.writes, beside.writes), ("searches", alone.searches, beside.searches))
    for what, before, after in pairs:
        for share, target in ((0.95, _WORSE), (0.5, None)):
            results.add(
                f"{what} beside an import, p{share * 100:.0f}", percentile(after, share), "ms",
                floor=percentile(before, share), floor_is="the same without an import",
                target=target, requests=len(after), memories=count, took_s=round(took_s, 1),
            )  # fmt: skip
