"""``engram bench freshness``: one memory on an idle system, from the request until it is found."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import httpx

from engram.errors import UnavailableError
from engram_cli.bench.checks import faults_of
from engram_cli.bench.connection import open_http
from engram_cli.bench.figures import Results, Target, is_quick, percentile, progress
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import Memory, memories, null_provider

_TARGET: Final = Target(50.0, at_most=True)
_COUNT: Final = 100
_QUICK_COUNT: Final = 30
_WARM_UP: Final = 5
_POLL_S: Final = 0.001
_IDLE_S: Final = 0.02
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds from the start of the request."""

    stored: float
    committed: float
    found: float


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when what was stored is wrong."""
    results = Results("freshness", as_json)
    asyncio.run(_run(results, _QUICK_COUNT if is_quick(arguments) else _COUNT))
    return results.finish()


async def _run(results: Results, count: int) -> None:
    listed = memories(count + _WARM_UP)
    async with running() as stack, open_http(stack) as http:
        times = []
        with progress("one at a time", len(listed)) as show:
            for number, memory in enumerate(listed):
                times.append(await _one(stack, http, memory))
                show(number + 1)
                await asyncio.sleep(_IDLE_S)
        provider_ms = await _provider_ms(listed[-1])
        _report(results, times[_WARM_UP:], provider_ms)
        faults = await faults_of(stack, [memory.content for memory in listed])
        results.checked(len(listed), "memories", faults)


async def _one(stack: Stack, http: httpx.AsyncClient, memory: Memory) -> Times:
    """Write one memory and wait until a search finds it.

    Searching all the time would slow down what is measured. So one connection asks for the
    vector's key, a fraction of a millisecond each time, and a single search follows.
    """
    body = {"content": memory.content, "user_id": memory.user, "metadata": memory.metadata}
    started = time.perf_counter()
    answer = await http.post("/v1/memories", json=body)
    stored = time.perf_counter()
    memory_id = answer.raise_for_status().json()["id"]
    committed = await _committed(stack, memory_id)
    search = {"query": memory.content, "namespace": memory.namespace, "limit": 1}
    found = (await http.post("/v1/memories/search", json=search)).raise_for_status().json()
    ended = time.perf_counter()
    if [result["memory"]["id"] for result in found["results"]] != [memory_id]:
        raise UnavailableError("bench_not_found", "A committed memory was not found by its text.")
    return Times(*(1_000 * (moment - started) for moment in (stored, committed, ended)))


async def _committed(stack: Stack, memory_id: str) -> float:
    sql = f"SELECT 1 FROM {stack.vectors} WHERE workspace = $1 AND memory_id = $2"
    deadline = time.monotonic() + _PATIENCE_S
    async with stack.pool.acquire() as connection:
        prepared = await connection.prepare(sql)
        while await prepared.fetchval(stack.workspace, memory_id) is None:
            if time.monotonic() > deadline:
                raise UnavailableError("bench_stalled", "A vector did not come for 30 s.")
            await asyncio.sleep(_POLL_S)
    return time.perf_counter()


async def _provider_ms(memory: Memory) -> float:
    provider, times = null_provider(), []
    for _ in range(100):
        started = time.perf_counter()
        await provider.embed([memory.content], "document")
        times.append(1_000 * (time.perf_counter() - started))
    return percentile(times, 0.5)


def _report(results: Results, times: list[Times], provider_ms: float) -> None:
    found = [one.found - provider_ms for one in times]
    results.add(
        "request to found, p50", percentile(found, 0.5), "ms", target=_TARGET,
        memories=len(times), provider_ms=round(provider_ms, 3), poll_ms=1_000 * _POLL_S,
    )  # fmt: skip
    results.add("request to found, p95", percentile(found, 0.95), "ms")
    stored, committed = [one.stored for one in times], [one.committed for one in times]
    for share, label in ((0.5, "p50"), (0.95, "p95")):
        results.add(f"request to stored, {label}", percentile(stored, share), "ms")
        results.add(f"request to committed vector, {label}", percentile(committed, share), "ms")
