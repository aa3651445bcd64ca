"""``engram bench import``: one large file stored by one ingest process, against the floor.

It speaks SQL outside engram.storage on purpose, as the other floors do.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import harmonic_mean
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx
from uuid_utils.compat import uuid7

from engram.errors import UnavailableError
from engram.events import encode_json
from engram.importers.reading import read
from engram_cli.bench import floor, import_beside, rss
from engram_cli.bench.arrivals import Arrivals
from engram_cli.bench.checks import faults_of
from engram_cli.bench.connection import open_http
from engram_cli.bench.figures import Results, Target, is_quick, progress
from engram_cli.bench.processes import cpu_seconds, pids_of, spent_since
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import Memory, memories, parts

_COUNT: Final = 100_000
_QUICK_COUNT: Final = 60_000
# Memories imported beside single requests, and seconds of these requests alone.
_BESIDE: Final = (100_000, 20.0)
_QUICK_BESIDE: Final = (20_000, 5.0)
_WARM_UP: Final = 2_000
_PARSED: Final = 20_000
_TARGET: Final = Target(0.4)
_POLL_S: Final = 0.02
_JOB: Final = "SELECT state, report, error FROM engram.import_job WHERE id = $1"
_PIECE_BYTES: Final = 1_000_000
_DROP: Final = "DROP TABLE IF EXISTS bench_memory, bench_alias"
# What an import leaves: the memory, and the name under which it is recognised next time.
_NAMES: Final = "CREATE TABLE bench_alias (LIKE engram.memory_alias INCLUDING ALL)"
_INSERT_NAMES: Final = """
INSERT INTO bench_alias (workspace, source, external_id, memory_id)
SELECT $1, 'native', n, i FROM unnest($2::text[], $3::uuid[]) AS r (n, i)
"""


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when what was stored is wrong."""
    results = Results("import", as_json)
    quick = is_quick(arguments)
    _parsing(results)
    count, beside = (_QUICK_COUNT, _QUICK_BESIDE) if quick else (_COUNT, _BESIDE)
    asyncio.run(_storing(results, count, beside))
    if not quick:
        asyncio.run(rss.measure(results, rss.SIZES_MB))
    return results.finish()


# Parsing --------------------------------------------------------------------------------------


def _parsing(results: Results) -> None:
    """Read the same memories in each format, with nothing behind it."""
    listed = memories(_PARSED)
    with progress("parsing"):
        for name, (file, format_name) in _files(listed).items():
            started = time.process_time()
            found = sum(1 for one in read(io.BytesIO(file), format=format_name) if one.item)
            spent_s = time.process_time() - started
            if found != len(listed):
                raise UnavailableError(
                    "bench_not_found", f"{found:,} of {len(listed):,} items were read as {name}."
                )
            results.add(
                f"parsing {name}", 1_000_000 * spent_s / found, "µs per item",
                bytes_per_item=len(file) // found,
            )  # fmt: skip


def _files(listed: Sequence[Memory]) -> Mapping[str, tuple[bytes, str]]:
    native = [_native(memory) for memory in listed]
    mem0 = [
        {"id": str(n), "memory": m.content, "user_id": m.user, "metadata": m.metadata}
        for n, m in enumerate(listed)
    ]
    rows = [{"id": n, "content": m.content, "user_id": m.user} for n, m in enumerate(listed)]
    edges = [{"uuid": str(n), "fact": m.content, "source_node_uuid": "a", "target_node_uuid": "b"}
             for n, m in enumerate(listed)]  # fmt: skip
    return {
        "native NDJSON": (_lines(native), "native"),
        "a native array": (encode_json(native), "native"),
        "mem0": (encode_json({"results": mem0}), "mem0"),
        "Postgres rows": (_lines(rows), "postgres"),
        "CSV": (_csv(rows), "postgres"),
        "Zep edges": (encode_json({"edges": edges}), "zep-edges"),
    }


def _native(memory: Memory) -> dict[str, Any]:
    return {"content": memory.content, "user_id": memory.user, "metadata": memory.metadata}


def _lines(items: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(encode_json(dict(item)) + b"\n" for item in items)


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    lines = [f'{row["id"]},"{row["content"]}",{row["user_id"]}' for row in rows]
    return "\n".join(("id,content,user_id", *lines)).encode()


# Storing --------------------------------------------------------------------------------------


async def _storing(results: Results, count: int, beside_it: tuple[int, float]) -> None:
    listed, warm_up = memories(count), memories(_WARM_UP, start=10_000_000)
    alone, beside = listed[: count * 3 // 4], listed[count * 3 // 4 :]
    async with running() as stack:
        arrivals = await Arrivals.open(stack)
        await _imported(stack, warm_up)
        with progress("import, the embedder at rest"), _resting(stack, "embedder"):
            # Machines change their pace within seconds: the floor is taken on both sides.
            earlier = await _floor_rate(stack, alone)
            before = cpu_seconds(stack.pid)
            stored = await _imported(stack, alone)
            spent = spent_since(before, stack.pid)
            later = await _floor_rate(stack, alone)
        plain = harmonic_mean((earlier, later))
        results.add(
            "a job of native NDJSON, stored", stored, "memories/s", floor=plain, target=_TARGET,
            memories=len(alone), floors=[round(earlier), round(later)],
        )  # fmt: skip
        for who in ("ingest", "postgres"):
            results.add(
                f"cpu of {who}", 1_000 * spent.get(who, 0.0) / len(alone), "s per 1,000 memories"
            )
        with progress("import, embedding beside it"):
            rate = await _imported(stack, beside)
        results.add("the same while it is embedded", rate, "memories/s", floor=plain)
        with progress("waiting for vectors", len(warm_up) + count) as show:
            await arrivals.grown_by(len(warm_up) + count, show)
        await arrivals.close()
        contents = [memory.content for memory in [*warm_up, *listed]]
        results.checked(len(contents), "memories", await faults_of(stack, contents))
        await _waiting(results, stack, *beside_it)


async def _waiting(results: Results, stack: Stack, count: int, alone_s: float) -> None:
    """Import a file while others write and search."""
    listed = memories(count, start=20_000_000)

    async def work(stack: Stack) -> int:
        await _imported(stack, listed)
        return len(listed)

    await import_beside.measure(results, stack, alone_s, work)


async def _imported(stack: Stack, listed: Sequence[Memory]) -> float:
    """Import memories as one file and return how many were stored a second, upload included."""
    body = _lines([_native(memory) for memory in listed])
    async with open_http(stack) as http:
        started = time.perf_counter()
        answer = await http.post("/v1/memories/import", content=_pieces(body))
        job = await _ended(stack, answer)
        elapsed_s = time.perf_counter() - started
    if job["report"]["counts"]["imported"] != len(listed):
        raise UnavailableError("bench_import_failed", f"The import ended so: {job}")
    return len(listed) / elapsed_s


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


async def _ended(stack: Stack, answer: httpx.Response) -> dict[str, Any]:
    """Return a job's last row, asked of Postgres: requests would be part of what is measured."""
    if answer.status_code != httpx.codes.ACCEPTED:
        raise UnavailableError("bench_import_failed", f"It was answered {answer.status_code}.")
    while True:
        job = await stack.row(_JOB, UUID(answer.json()["id"]))
        if job["state"] not in ("queued", "running"):
            return job
        await asyncio.sleep(_POLL_S)


async def _floor_rate(stack: Stack, listed: Sequence[Memory]) -> float:
    """Insert the same rows with plain asyncpg: one connection, 500 a transaction, no vectors."""
    connection = await asyncpg.connect(stack.where.database_url, server_settings={"jit": "off"})
    try:
        await connection.execute(_DROP)
        await connection.execute(floor.SAME.make[0])
        await connection.execute(_NAMES)
        started = time.perf_counter()
        for part in parts(listed, floor.BATCH):
            ids = [uuid7() for _ in part]
            async with connection.transaction():
                await connection.execute(
                    floor.SAME.insert,
                    *(stack.workspace, datetime.now(UTC), ids),
                    [memory.namespace for memory in part],
                    [memory.content for memory in part],
                    [memory.user for memory in part],
                    [encode_json(memory.metadata).decode() for memory in part],
                )
                names = [one.hex for one in ids]
                await connection.execute(_INSERT_NAMES, stack.workspace, names, ids)
        elapsed_s = time.perf_counter() - started
        await connection.execute(_DROP)
    finally:
        await connection.close()
    return len(listed) / elapsed_s


@contextmanager
def _resting(stack: Stack, service: str) -> Iterator[None]:
    """Stop a service's process while inside, where there is a /proc to find it by."""
    pids = pids_of(stack.pid, service)
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
