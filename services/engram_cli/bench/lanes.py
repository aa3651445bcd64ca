"""``engram bench lanes``: what a bulk run costs those who write and search meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import httpx
from uuid_utils.compat import uuid7

from engram.domain.budget import quota_of
from engram.errors import UnavailableError
from engram.storage import bulk
from engram_cli.bench.connection import open_http
from engram_cli.bench.fake_process import fake_provider
from engram_cli.bench.figures import Results, Target, is_quick, percentile, progress
from engram_cli.bench.planted import plant_texts
from engram_cli.bench.stack import Stack, running

_WORSE: Final = Target(1.2, at_most=True)
# Few numbers a vector: the fake writes them all out, on the same two cores.
_SPACE: Final = "openai:text-embedding-3-small@64"
_TOKENS: Final = 150
_PER_S: Final = 20
_BATCH: Final = 256
_PATIENCE_S: Final = 600.0
_WARM_UP_S: Final = 3.0
# Memories in bulk, and seconds of measuring without them.
_FULL: Final = (100_000, 40.0)
_QUICK: tuple[int, float] = (5_000, 8.0)


@dataclass(slots=True)
class Times:
    """Milliseconds of each request, from the moment it was due."""

    writes: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when a vector is missing afterwards."""
    results = Results("lanes", as_json)
    count, seconds = _QUICK if is_quick(arguments) else _FULL
    asyncio.run(_run(results, count, seconds))
    return results.finish()


async def _run(results: Results, count: int, seconds: float) -> None:
    quota = quota_of("voyage", "voyage-4")
    if quota is None:
        raise UnavailableError("bench_no_quota", "The preset of voyage-4 is missing.")
    limits = ("--requests", quota.requests, "--tokens", quota.tokens)
    async with fake_provider(*limits) as url:
        settings = {
            "ENGRAM_OPENAI_BASE_URL": url,
            "ENGRAM_PROVIDER_RPM": str(quota.requests),
            "ENGRAM_PROVIDER_TPM": str(quota.tokens),
        }
        async with running(_SPACE, settings) as stack, open_http(stack) as http:
            ids = await _planted(stack, count)
            await under_load(http, _WARM_UP_S, Times())
            alone, beside = Times(), Times()
            with progress("without a bulk run", seconds) as show:
                await under_load(http, seconds, alone, show)
            await _ring(stack, ids)
            started = time.perf_counter()
            with progress("beside one", count) as show:
                done = asyncio.create_task(_done(stack, count, show))
                while not done.done():
                    await under_load(http, 1.0, beside)
                await done
            taken_s = time.perf_counter() - started
            _report(results, alone, beside)
            allowed = quota.tokens / quota.window_s / _TOKENS
            results.add(
                "bulk", count / taken_s, "memories/s", floor=allowed, floor_is="the quota",
                memories=count, text_tokens=_TOKENS, tpm=quota.tokens,
            )  # fmt: skip
            missing = count - await _vectors(stack)
            results.checked(count, "memories", [f"{missing} lack a vector"] if missing else [])


def _report(results: Results, alone: Times, beside: Times) -> None:
    pairs = (("writes", alone.writes, beside.writes), ("searches", alone.searches, beside.searches))
    for what, before, after in pairs:
        results.add(
            f"{what}, p95", percentile(after, 0.95), "ms", floor=percentile(before, 0.95),
            floor_is="the same without a bulk run", target=_WORSE,
            per_s=_PER_S, requests=len(after),
        )  # fmt: skip
        results.add(
            f"{what}, p50", percentile(after, 0.5), "ms", floor=percentile(before, 0.5),
            floor_is="the same without a bulk run",
        )  # fmt: skip


async def _planted(stack: Stack, count: int) -> list[UUID]:
    """Store memories that nobody was told of, as a backfill finds them."""
    texts = [f"{number:08d} ".ljust(_TOKENS * 4, "x") for number in range(count)]
    with progress("stored before", count) as show:
        return await plant_texts(stack, "user:bulk", texts, show)


async def _ring(stack: Stack, ids: list[UUID]) -> None:
    batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
    async with stack.pool.acquire() as connection:
        await bulk.add(connection, stack.space, [(stack.workspace, batch) for batch in batches])


async def _done(stack: Stack, count: int, show: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    # The queue is a few hundred rows: counting vectors would slow down what is measured.
    while (waiting := await _waiting(stack)) > 0:
        show(count - waiting)
        if time.monotonic() > deadline:
            raise UnavailableError("bench_stalled", f"{waiting:,} of {count:,} still wait.")
        await asyncio.sleep(0.5)


async def _waiting(stack: Stack) -> int:
    async with stack.pool.acquire() as connection:
        memories, _ = await bulk.waiting(connection, stack.space)
    return memories


async def _vectors(stack: Stack) -> int:
    sql = "SELECT count(*) AS rows FROM {vectors} WHERE namespace = 'user:bulk'"
    return int((await stack.row(sql))["rows"])


async def under_load(
    http: httpx.AsyncClient,
    seconds: float,
    times: Times,
    show: Callable[[float], None] = lambda _: None,
) -> None:
    """Write and search at a fixed rate, whether or not the answers keep up."""
    started, asked = time.perf_counter(), []
    for number in range(int(seconds * _PER_S)):
        due = started + number / _PER_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        text = f"{uuid7()} prefers the train"
        write = http.post("/v1/memories", json={"content": text, "user_id": "live"})
        search = http.post("/v1/memories/search", json={"query": text, "namespace": "user:live"})
        asked.append(asyncio.create_task(_timed(write, due, times.writes)))
        asked.append(asyncio.create_task(_timed(search, due, times.searches)))
        show(number / _PER_S)
    await asyncio.gather(*asked)


async def _timed(request: Awaitable[httpx.Response], due: float, times: list[float]) -> None:
    (await request).raise_for_status()
    times.append(1_000 * (time.perf_counter() - due))
