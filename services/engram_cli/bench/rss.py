"""``engram bench rss``: the memory of an import, at both ends, as the file grows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engram.errors import UnavailableError
from engram.events import encode_json
from engram_cli.bench.arrivals import Arrivals
from engram_cli.bench.checks import faults_of
from engram_cli.bench.figures import Results, Target, is_quick, progress
from engram_cli.bench.processes import children_of, pids_of
from engram_cli.bench.rss_child import peak_bytes
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import memories

SIZES_MB: Final = (10, 1_000)
# Below 10 MB buffers are not full yet, and a comparison would show their filling.
_QUICK_SIZES_MB: Final = (10, 30)
_TARGET: Final = Target(1.25, at_most=True)
_ITEM_BYTES: Final = 2_000
_LOOK_S: Final = 0.1


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when what was stored is wrong."""
    results = Results("rss", as_json)
    asyncio.run(measure(results, _QUICK_SIZES_MB if is_quick(arguments) else SIZES_MB))
    return results.finish()


async def measure(results: Results, sizes_mb: tuple[int, ...]) -> None:
    """Import a file of each size and add the peaks of the processes that read it."""
    peaks: list[float] = []
    servers: list[float] = []
    parsers: list[float] = []
    contents: list[str] = []
    async with running() as stack:
        for size_mb in sizes_mb:
            arrivals = await Arrivals.open(stack)
            with _watched(stack) as parsing:
                texts, peak = await _import(stack, size_mb, start=len(contents))
            contents += texts
            peaks.append(peak)
            _report(results, f"importing {size_mb:,} MB", len(texts), peaks)
            servers.append(_ingest_mb(stack))
            _report(results, f"ingest, importing {size_mb:,} MB", len(texts), servers)
            if parsing:
                parsers.append(max(parsing) / 1_000_000)
                _report(results, f"parsing {size_mb:,} MB", len(texts), parsers)
            with progress("waiting for vectors", len(texts)) as show:
                await arrivals.grown_by(len(texts), show)
            await arrivals.close()
        results.checked(len(contents), "memories", await faults_of(stack, contents))


def _ingest_mb(stack: Stack) -> float:
    """Return the peak RSS of the ingest process so far, 0 where there is no /proc to tell it."""
    return max((peak_bytes(pid) for pid in pids_of(stack.pid, "ingest")), default=0) / 1_000_000


@contextmanager
def _watched(stack: Stack) -> Iterator[list[int]]:
    """Look at the process that parses for as long as inside: it ends with the job.

    Yields:
        The peaks that were seen, in bytes; none where there is no /proc, nor of a file so small
        that a thread reads it.
    """
    peaks: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_S):
            for ingest in pids_of(stack.pid, "ingest"):
                for child in children_of(ingest):
                    with contextlib.suppress(OSError, ValueError):
                        peaks.append(peak_bytes(child))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield peaks
    finally:
        ended.set()
        watching.join()


def _report(results: Results, what: str, items: int, peaks: list[float]) -> None:
    first = len(peaks) == 1
    results.add(
        f"peak of {what}", peaks[-1], "MB",
        floor=None if first else peaks[0], target=None if first else _TARGET, items=items,
    )  # fmt: skip


async def _import(stack: Stack, size_mb: int, start: int) -> tuple[list[str], float]:
    """Import a file of this size with a process of its own; return its texts and peak RSS in MB."""
    with _file(size_mb, start) as (path, contents), progress(f"importing {size_mb} MB"):
        peak = await _peak_mb(stack, path)
    return contents, peak


@contextmanager
def _file(size_mb: int, start: int) -> Iterator[tuple[Path, list[str]]]:
    """Write an NDJSON file of native items, about 2 kB each, most of it metadata."""
    count = size_mb * 1_000_000 // _ITEM_BYTES
    listed = memories(count, start)
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
        path = Path(folder) / "memories.ndjson"
        with path.open("wb") as file:
            for memory in listed:
                item = {"content": memory.content, "user_id": memory.user, "metadata": {}}
                room = _ITEM_BYTES - len(encode_json(item)) - len(b'"note":""\n')
                file.write(encode_json({**item, "metadata": {"note": "." * room}}) + b"\n")
        yield path, [memory.content for memory in listed]


async def _peak_mb(stack: Stack, path: Path) -> float:
    argv = ("-m", "engram_cli.bench.rss_child", "import", str(path), "--json")
    env = {name: value for name, value in os.environ.items() if not name.startswith("ENGRAM_")}
    env |= {"ENGRAM_URL": stack.where.url, "ENGRAM_API_KEY": stack.where.api_key}
    child = await asyncio.create_subprocess_exec(
        sys.executable, *argv, env=env, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    if child.returncode:
        raise UnavailableError(
            "bench_import_failed", f"engram import ended with {child.returncode}."
        )
    return int(said.splitlines()[-1]) / 1_000_000
