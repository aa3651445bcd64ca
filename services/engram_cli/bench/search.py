"""``engram bench search``: time and recall of searches by HTTP, in namespaces of several sizes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import httpx
from pgvector import HalfVector

from engram.domain.indexing import EXACT_ROWS
from engram.domain.vectors import Matrix
from engram_cli.bench.clusters import Clusters, nearest, recall
from engram_cli.bench.connection import open_http
from engram_cli.bench.figures import Results, Target, is_quick, percentile, progress
from engram_cli.bench.planted import faults_of, plant
from engram_cli.bench.quiet import quiet
from engram_cli.bench.stack import Stack, running

_SIZES: Final = (10, 1_000, 10_000, 100_000)
# Above 20,000 rows a namespace is indexed: the least that shows it in under a minute.
_QUICK_SIZES: Final = (10, 1_000, 10_000, 21_000)
_WANTED: Final = 10
_WARM_UP: Final = 10
_PLAIN = """
SELECT memory_id FROM {vectors} WHERE workspace = $1 AND namespace = $2
ORDER BY embedding <=> $3 LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Planted:
    """One namespace as it was written."""

    namespace: str
    ids: list[UUID]
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class Asked:
    """The answers of all queries: milliseconds, found rows, and the ways they took."""

    times_ms: list[float]
    found: list[set[int]]
    routes: set[str]


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when what was stored is wrong."""
    results = Results("search", as_json)
    asyncio.run(_run(results, quick=is_quick(arguments)))
    return results.finish()


async def _run(results: Results, *, quick: bool) -> None:
    clusters = await Clusters.of(40 if quick else 200)
    async with running() as stack, open_http(stack) as http:
        written = [
            await _write(stack, clusters, size) for size in (_QUICK_SIZES if quick else _SIZES)
        ]
        with progress("waiting for indexes"):
            build_s = await quiet(stack)
        results.add("until indexed", build_s, "s", rows=sum(len(one.ids) for one in written))
        for planted in written:
            await _measure(stack, http, results, clusters, planted)
        faults = [
            fault
            for one in written
            for fault in await faults_of(stack, one.namespace, one.ids, one.vectors)
        ]
        results.checked(sum(len(one.ids) for one in written), "vectors", faults)


async def _write(stack: Stack, clusters: Clusters, size: int) -> Planted:
    vectors = clusters.members(size, seed=size)
    namespace = f"app:of-{size}"
    with progress(f"writing {size:,}", size) as show:
        ids = await plant(stack, namespace, vectors, show)
    return Planted(namespace, ids, vectors)


async def _measure(
    stack: Stack, http: httpx.AsyncClient, results: Results, clusters: Clusters, planted: Planted
) -> None:
    size = len(planted.ids)
    with progress(f"searching {size:,}", len(clusters.queries)):
        asked = await _ask(http, clusters.queries, planted)
        plain_ms = await _plain(stack, clusters.vectors, planted)
    true = nearest(clusters.vectors, planted.vectors, _WANTED)
    params: dict[str, Any] = {
        "rows": size, "route": "+".join(sorted(asked.routes)), "queries": len(clusters.queries)
    }  # fmt: skip
    target = Target(1.0 if size <= EXACT_ROWS else 0.98)
    share = recall(asked.found, true)
    results.add(f"recall@10 of {size:,}", share, "of 1", target=target, **params)
    for share, label in ((0.5, "p50"), (0.95, "p95")):
        results.add(
            f"{label} of {size:,}", percentile(asked.times_ms, share), "ms",
            floor=percentile(plain_ms, share), **params,
        )  # fmt: skip


async def _ask(http: httpx.AsyncClient, queries: Sequence[str], planted: Planted) -> Asked:
    """Ask one query after another, by HTTP as everybody does."""
    row_of = {str(memory_id): row for row, memory_id in enumerate(planted.ids)}
    asked = Asked([], [], set())
    for number, query in enumerate([*queries[:_WARM_UP], *queries]):
        body = {"query": query, "namespace": planted.namespace, "limit": _WANTED}
        started = time.perf_counter()
        answer = await http.post("/v1/memories/search", json=body)
        elapsed_ms = 1_000 * (time.perf_counter() - started)
        if number < _WARM_UP:
            continue
        found = answer.raise_for_status().json()
        asked.times_ms.append(elapsed_ms)
        asked.found.append({row_of[result["memory"]["id"]] for result in found["results"]})
        asked.routes.add(found["route"])
    return asked


async def _plain(stack: Stack, queries: Matrix, planted: Planted) -> list[float]:
    """Ask Postgres alone for the ids, in one plain statement; milliseconds."""
    times = []
    sql = _PLAIN.replace("{vectors}", stack.vectors)
    async with stack.pool.acquire() as connection:
        for number, query in enumerate([*queries[:_WARM_UP], *queries]):
            vector = HalfVector(query)
            started = time.perf_counter()
            await connection.fetch(sql, stack.workspace, planted.namespace, vector, _WANTED)
            if number >= _WARM_UP:
                times.append(1_000 * (time.perf_counter() - started))
    return times
