"""``engram bench soak``: a steady load for as long as one likes, and what grows under it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import httpx

from engram.errors import UsageError
from engram_cli.bench.checks import faults_of
from engram_cli.bench.connection import open_http
from engram_cli.bench.figures import Results, Step, Target, percentile, progress
from engram_cli.bench.growth import Growth
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import Memory, memories

# Scorecard R28.
_STORED: Final = Target(250.0, at_most=True)
_LAG: Final = Target(10_000.0, at_most=True)
_SLOPE: Final = Target(1.0, at_most=True)

_PER_S: Final = 100
_SEARCHES_EVERY: Final = 50
_MINUTES: Final = 30.0
_QUICK_MINUTES: float = 0.25
# In less, connections open and caches fill: that is neither a leak nor a lag.
_JUDGED_MINUTES: Final = 2.0
_LOOK_S: Final = 0.1
_PATIENCE_S: Final = 120.0


@dataclass(slots=True)
class _Load:
    """What was sent and what came of it.

    Attributes:
        stored_ms: from the moment a request was due until its answer, each.
        lag_ms: from that moment until the vector was seen committed, each, to 0.1 s.
        waiting: memories whose vector was not seen yet, with that moment.
        failed: statuses of requests that were not answered 201; 0 where there was no answer.
    """

    stored_ms: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    waiting: dict[UUID, float] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when a memory was lost or what was stored is wrong."""
    results = Results("soak", as_json)
    asyncio.run(_run(results, _minutes(arguments)))
    return results.finish()


def _minutes(arguments: Sequence[str]) -> float:
    """Read ``--quick`` or ``--minutes N``.

    Raises:
        UsageError: anything else was given.
    """
    match list(arguments):
        case []:
            return _MINUTES
        case ["--quick"]:
            return _QUICK_MINUTES
        case ["--minutes", number] if number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number)
    raise UsageError("usage", "Unknown arguments.", cure="soak takes --quick, or --minutes N.")


async def _run(results: Results, minutes: float) -> None:
    load = _Load()
    async with running() as stack, open_http(stack) as http:
        growth = Growth(stack)
        watching = [asyncio.create_task(growth.watch()), asyncio.create_task(_watch(stack, load))]
        try:
            with progress(f"{_PER_S} a second", 60 * minutes) as show:
                await _send(http, load, memories(int(60 * minutes * _PER_S)), show)
            await _settled(load)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        _report(results, load, growth, minutes)
        faults = await faults_of(stack, load.contents)
        if load.waiting:
            faults.append(f"{len(load.waiting):,} accepted memories have no vector")
        if load.failed:
            faults.append(f"{len(load.failed):,} requests were not answered 201")
        results.checked(len(load.contents), "memories", faults)


async def _send(http: httpx.AsyncClient, load: _Load, listed: Sequence[Memory], show: Step) -> None:
    """Send at fixed moments, whether or not the answers keep up."""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        for number, memory in enumerate(listed):
            due = started + number / _PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            requests.create_task(_write(http, load, memory, due))
            if number % _SEARCHES_EVERY == 0:
                requests.create_task(_search(http, memory))
                show(number / _PER_S)


async def _write(http: httpx.AsyncClient, load: _Load, memory: Memory, due: float) -> None:
    body = {"content": memory.content, "user_id": memory.user, "metadata": memory.metadata}
    try:
        answer = await http.post("/v1/memories", json=body)
    except httpx.TransportError:
        load.failed.append(0)
        return
    if answer.status_code != httpx.codes.CREATED:
        load.failed.append(answer.status_code)
        return
    load.stored_ms.append(1_000 * (time.perf_counter() - due))
    load.contents.append(memory.content)
    load.waiting[UUID(answer.json()["id"])] = due


async def _search(http: httpx.AsyncClient, memory: Memory) -> None:
    query = {"query": memory.content, "namespace": memory.namespace}
    # Beside the load and not judged: what it costs is seen in the times of the writes.
    with contextlib.suppress(httpx.TransportError):
        await http.post("/v1/memories/search", json=query)


async def _watch(stack: Stack, load: _Load) -> None:
    """Note for each memory when its vector is there, until cancelled."""
    sql = f"SELECT memory_id FROM {stack.vectors} WHERE workspace = $1 AND memory_id = ANY ($2)"
    while True:
        rows = await stack.pool.fetch(sql, stack.workspace, list(load.waiting))
        now = time.perf_counter()
        for row in rows:
            load.lag_ms.append(1_000 * (now - load.waiting.pop(row["memory_id"])))
        await asyncio.sleep(_LOOK_S)


async def _settled(load: _Load) -> None:
    """Wait until every vector was seen, for two minutes at most."""
    deadline = time.monotonic() + _PATIENCE_S
    while load.waiting and time.monotonic() < deadline:  # noqa: ASYNC110 - another task empties it
        await asyncio.sleep(_LOOK_S)


def _report(results: Results, load: _Load, growth: Growth, minutes: float) -> None:
    given = {"minutes": minutes, "per_s": _PER_S}
    judged = minutes >= _JUDGED_MINUTES
    for what, times, target in (
        ("request to stored", load.stored_ms, _STORED),
        ("request to committed vector", load.lag_ms, _LAG),
    ):
        results.add(f"{what}, p50", percentile(times, 0.5), "ms")
        worst = percentile(times, 0.99)
        results.add(f"{what}, p99", worst, "ms", target=target if judged else None, **given)
    for service, (slope, last_mb) in growth.slopes().items():
        results.add(
            f"memory of {service}, growth", slope, "MB/min", target=_SLOPE if judged else None,
            last_mb=round(last_mb, 1), **given,
        )  # fmt: skip
    results.add("outbox, most lines", growth.most_lines, "lines")
    results.add("outbox, lines at the end", growth.last_lines, "lines")
