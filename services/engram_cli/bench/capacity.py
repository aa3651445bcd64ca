"""``engram bench capacity``: bytes and CPU of a memory, space and sweep, for docs/scaling.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import nats

from engram.broker.topology import STREAMS
from engram.errors import UnavailableError
from engram.storage import sweeps
from engram_cli.bench.arrivals import Arrivals
from engram_cli.bench.checks import faults_of
from engram_cli.bench.connection import open_http
from engram_cli.bench.e2e import load
from engram_cli.bench.figures import Results, is_quick, progress
from engram_cli.bench.processes import cpu_seconds, spent_since
from engram_cli.bench.quiet import quiet, vacuumed
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import Memory, memories

# Above 20,000, so that the vectors get an index as they do in a real store.
_COUNT: Final = 25_000
_QUICK_COUNT: int = 4_000
_SINGLES: Final = 1_000
_QUICK_SINGLES: int = 200
_AT_ONCE: Final = 8
_SWEEPS: Final = ("reconcile", "decay")
_PATIENCE_S: Final = 300.0
_POLL_S: Final = 0.1

_SIZES = """
SELECT (SELECT sum(pg_table_size(c.oid)) FROM pg_class c
        WHERE c.oid IN ('engram.memory'::regclass, 'engram.memory_alias'::regclass))::bigint
           AS rows,
       (SELECT sum(pg_indexes_size(c.oid)) FROM pg_class c
        WHERE c.oid IN ('engram.memory'::regclass, 'engram.memory_alias'::regclass))::bigint
           AS indexes,
       pg_table_size('{vectors}'::regclass) AS vectors,
       (SELECT coalesce(sum(pg_relation_size(i.indexrelid)), 0)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = '{vectors}'::regclass AND a.amname <> 'hnsw')::bigint AS keys,
       (SELECT coalesce(sum(pg_relation_size(i.indexrelid)), 0)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = '{vectors}'::regclass AND a.amname = 'hnsw')::bigint AS hnsw,
       (SELECT coalesce(sum(c.reltuples), 0)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = '{vectors}'::regclass AND a.amname = 'hnsw')::bigint AS indexed,
       (SELECT count(*) FROM engram.memory) AS memories
"""


@dataclass(frozen=True, slots=True)
class _Spent:
    """CPU seconds by process, bytes of the write-ahead log and of streams, for some memories."""

    memories: int
    cpu_s: Mapping[str, float]
    wal_bytes: int
    stream_bytes: int


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when what was stored is wrong."""
    results = Results("capacity", as_json)
    asyncio.run(_run(results, quick=is_quick(arguments)))
    return results.finish()


async def _run(results: Results, *, quick: bool) -> None:
    count, singles = (_QUICK_COUNT, _QUICK_SINGLES) if quick else (_COUNT, _SINGLES)
    listed, one_by_one = memories(count), memories(singles, start=10_000_000)
    async with running() as stack:
        with progress("import", count) as show:
            imported = await _spending(stack, lambda: load(stack, listed, show), count)
        with progress("one at a time", singles):
            written = await _spending(stack, lambda: _singles(stack, one_by_one), singles)
        with progress("waiting for indexes and vacuum"):
            started = time.perf_counter()
            await quiet(stack)
            built_s = time.perf_counter() - started
            await vacuumed(stack)
        _report_spent(results, "imported", imported)
        _report_spent(results, "written alone", written)
        await _report_sizes(results, stack, built_s)
        await _report_sweeps(results, stack, count + singles)
        contents = [memory.content for memory in [*listed, *one_by_one]]
        results.checked(len(contents), "memories", await faults_of(stack, contents))


async def _spending(stack: Stack, work: Callable[[], Awaitable[object]], count: int) -> _Spent:
    """Do some work and return what it took."""
    before, wal, streams = cpu_seconds(stack.pid), await _wal(stack), await _stream_bytes(stack)
    await work()
    cpu_s = spent_since(before, stack.pid)
    return _Spent(count, cpu_s, await _wal(stack) - wal, await _stream_bytes(stack) - streams)


async def _wal(stack: Stack) -> int:
    found = await stack.row("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal")
    return int(found["wal"])


async def _stream_bytes(stack: Stack) -> int:
    client = await nats.connect(stack.where.nats_url)
    try:
        jetstream = client.jetstream()
        infos = [await jetstream.stream_info(str(stream.name)) for stream in STREAMS]
        return sum(info.state.bytes for info in infos)
    finally:
        await client.close()


async def _singles(stack: Stack, listed: Sequence[Memory]) -> None:
    """Write memories one a request, some at a time, and wait for their vectors."""
    arrivals, remaining = await Arrivals.open(stack), iter(listed)

    async def work(http: httpx.AsyncClient) -> None:
        for memory in remaining:
            body = {"content": memory.content, "user_id": memory.user, "metadata": memory.metadata}
            (await http.post("/v1/memories", json=body)).raise_for_status()

    try:
        async with open_http(stack) as http:
            await asyncio.gather(*(work(http) for _ in range(_AT_ONCE)))
        await arrivals.grown_by(len(listed), _nothing)
    finally:
        await arrivals.close()


def _nothing(done: float) -> None:
    """Show nothing."""


def _report_spent(results: Results, how: str, spent: _Spent) -> None:
    thousands = spent.memories / 1_000
    for who in ("postgres", "ingest", "embedder", "nats"):
        if who in spent.cpu_s:
            results.add(
                f"cpu of {who}, {how}", spent.cpu_s[who] / thousands, "s per 1,000 memories"
            )
    engram = sum(spent.cpu_s.values()) - spent.cpu_s.get("client", 0.0)
    results.add(f"cpu of all, {how}", engram / thousands, "s per 1,000 memories")
    results.add(f"write-ahead log, {how}", spent.wal_bytes / spent.memories, "bytes per memory")
    results.add(f"streams, {how}", spent.stream_bytes / spent.memories, "bytes per memory")


async def _report_sizes(results: Results, stack: Stack, built_s: float) -> None:
    sizes = await stack.row(_SIZES)
    count = sizes["memories"]
    for figure, name in (
        ("memory, table", "rows"),
        ("memory, indexes", "indexes"),
        ("vector of 1,024 numbers, table", "vectors"),
        ("vector of 1,024 numbers, keys", "keys"),
    ):
        results.add(figure, sizes[name] / count, "bytes per memory", memories=count)
    if sizes["indexed"]:
        results.add(
            "vector of 1,024 numbers, hnsw",
            sizes["hnsw"] / sizes["indexed"],
            "bytes per memory",
            indexed=sizes["indexed"],
        )
        results.add("building hnsw", 1_000 * built_s / sizes["indexed"], "s per 1,000 memories")


async def _report_sweeps(results: Results, stack: Stack, count: int) -> None:
    """Have each sweep run once over everything, with nothing for it to change."""
    for name in _SWEEPS:
        with progress(f"sweep {name}"):
            took_s = await _swept(stack, name)
        results.add(f"sweep {name}", took_s * 1_000_000 / count, "s per million memories")


async def _swept(stack: Stack, name: str) -> float:
    before = await _finished(stack, name)
    async with stack.pool.acquire() as connection:
        await sweeps.due_now(connection, name)
    deadline = time.monotonic() + _PATIENCE_S
    while await _finished(stack, name) == before:
        if time.monotonic() > deadline:
            raise UnavailableError("bench_stalled", f"The sweep {name} did not run.")
        await asyncio.sleep(_POLL_S)
    sql = "SELECT last_duration_s AS took_s FROM engram.sweep WHERE name = $1"
    return float((await stack.row(sql, name))["took_s"])


async def _finished(stack: Stack, name: str) -> object:
    sql = "SELECT last_finished AS at FROM engram.sweep WHERE name = $1"
    return (await stack.row(sql, name))["at"]
