"""``engram bench e2e``: bulk import by HTTP until every vector is committed, against the floor."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from engram.errors import UnavailableError
from engram_cli.bench import floor
from engram_cli.bench.arrivals import Arrivals
from engram_cli.bench.checks import faults_of
from engram_cli.bench.connection import open_http
from engram_cli.bench.figures import Results, Step, Target, is_quick, progress
from engram_cli.bench.floor import Floor
from engram_cli.bench.processes import cpu_seconds, spent_since
from engram_cli.bench.quiet import quiet, vacuumed
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import ITEMS_A_REQUEST, Memory, bodies, memories, vectors_of

_COUNT: Final = 20_000
_QUICK_COUNT: Final = 5_000
IN_FLIGHT: Final = 4
_WARM_UP: Final = 1_000
_FLAT: Final = (10_000, 100_000)
_MORE: Final = 10_000
_TARGET: Final = Target(0.4)
_FLAT_TARGET: Final = Target(0.8)


@dataclass(frozen=True, slots=True)
class Load:
    """One measured import.

    Attributes:
        stored_s: seconds until the last request was answered.
        total_s: seconds until the last vector was committed.
        cpu_s: CPU seconds by process.
    """

    count: int
    stored_s: float
    total_s: float
    cpu_s: dict[str, float]

    @property
    def rate(self) -> float:
        """Memories a second from the first request to the last vector."""
        return self.count / self.total_s


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when what was stored is wrong."""
    results = Results("e2e", as_json)
    asyncio.run(_run(results, quick=is_quick(arguments)))
    return results.finish()


async def _run(results: Results, *, quick: bool) -> None:
    async with running() as stack:
        await _against_floor(stack, results, _QUICK_COUNT if quick else _COUNT)
    if not quick:
        async with running() as stack:
            await _flatness(stack, results)


async def _against_floor(stack: Stack, results: Results, count: int) -> None:
    listed = memories(count)
    vectors = await vectors_of([memory.content for memory in listed])
    warm_up = memories(_WARM_UP, start=10_000_000)
    await load(stack, warm_up)
    with progress("the floor"):
        plain = await floor.plain_inserts(stack, floor.SAME, listed, vectors)
        bare = await floor.plain_inserts(stack, floor.BARE, listed, vectors)
    with progress("import", count) as show:
        done = await load(stack, listed, show)
    _report(results, done, plain, bare)
    contents = [memory.content for memory in [*warm_up, *listed]]
    faults = await faults_of(stack, contents)
    results.checked(len(contents), "memories", faults)


def _report(results: Results, done: Load, plain: Floor, bare: Floor) -> None:
    results.add(
        "import to committed vectors", done.rate, "memories/s", floor=plain.rate, target=_TARGET,
        memories=done.count, items_a_request=ITEMS_A_REQUEST, in_flight=IN_FLIGHT,
        floor_by_connections={number: round(rate) for number, rate in plain.rates.items()},
    )  # fmt: skip
    results.add(
        "import, against the best of several connections", done.rate, "memories/s",
        floor=plain.best,
    )  # fmt: skip
    results.add(
        "import, against bare tables and the best connections", done.rate, "memories/s",
        floor=bare.best,
        floor_by_connections={number: round(rate) for number, rate in bare.rates.items()},
    )  # fmt: skip
    results.add("import to stored", done.count / done.stored_s, "memories/s", memories=done.count)
    for who, seconds in done.cpu_s.items():
        results.add(f"cpu of {who}", 1_000 * seconds / done.count, "s per 1,000 memories")
    total = sum(done.cpu_s.values())
    results.add(
        "cpu of all",
        1_000 * total / done.count,
        "s per 1,000 memories",
        floor=1_000 * plain.cpu_s / done.count,
    )


async def _flatness(stack: Stack, results: Results) -> None:
    rates, sent = [], 0
    for size in _FLAT:
        with progress(f"filling to {size:,}", size - sent) as show:
            await load(stack, memories(size - sent, start=sent), show)
        sent = size
        # Index builds and vacuum of what was just filled take the cores; neither is writing.
        with progress("waiting for indexes and vacuum"):
            await quiet(stack)
            await vacuumed(stack)
        with progress(f"import at {size:,}", _MORE) as show:
            rates.append((await load(stack, memories(_MORE, start=sent), show)).rate)
        sent += _MORE
    results.add(
        f"import at {_FLAT[1]:,} in store", rates[1], "memories/s",
        floor=rates[0], target=_FLAT_TARGET, floor_is=f"the same at {_FLAT[0]:,}",
        memories=_MORE,
    )  # fmt: skip
    faults = await faults_of(stack, [memory.content for memory in memories(sent)])
    results.checked(sent, "memories", faults)


def _nothing(done: float) -> None:
    """Show nothing."""


async def load(stack: Stack, listed: Sequence[Memory], show: Step = _nothing) -> Load:
    """Import memories and wait until every one has its committed vector.

    Raises:
        UnavailableError: a request was refused, or vectors stopped coming.
    """
    encoded = bodies(listed)
    arrivals = await Arrivals.open(stack)
    try:
        async with open_http(stack) as http:
            await http.get("/v1/workspace")
            before, started = cpu_seconds(stack.pid), time.perf_counter()
            waiting = asyncio.create_task(arrivals.grown_by(len(listed), show))
            try:
                await _send(http, encoded)
                stored_s = time.perf_counter() - started
                await waiting
            finally:
                waiting.cancel()
            total_s = time.perf_counter() - started
    finally:
        await arrivals.close()
    return Load(len(listed), stored_s, total_s, spent_since(before, stack.pid))


async def _send(http: httpx.AsyncClient, encoded: Sequence[bytes]) -> None:
    remaining = iter(encoded)

    async def work() -> None:
        for body in remaining:
            headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
            answer = await http.post("/v1/memories/import", content=body, headers=headers)
            if answer.status_code != httpx.codes.OK:
                said = answer.text[:200]
                raise UnavailableError(
                    "bench_refused", f"An import was answered with {answer.status_code}: {said}"
                )

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
