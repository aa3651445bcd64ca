"""``engram bench migrate``: a whole migration at a provider's limits, under reads and writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx

from engram.domain.budget import quota_of
from engram.errors import UnavailableError
from engram_cli.bench.connection import open_http
from engram_cli.bench.fake_process import fake_provider
from engram_cli.bench.figures import Results, Target, is_quick, percentile, progress
from engram_cli.bench.migrate_load import PER_S, Load, Times
from engram_cli.bench.migrate_planted import TOKENS, Planted, plant
from engram_cli.bench.quiet import quiet
from engram_cli.bench.stack import Stack, running

_TOTAL: Final = Target(1.2, at_most=True)
_WORSE: Final = Target(1.2, at_most=True)
_AGAIN: Final = Target(1.02, at_most=True)
_NONE: Final = Target(0.0, at_most=True)
# Few numbers a vector: the fake writes them all out, on the same two cores. Of another length than
# the old ones, so that comparing one with another fails instead of answering something.
_OLD: Final = "null@16"
_NEW: Final = "openai:text-embedding-3-small@32"
_ROUTE: Final = "/v1/migrations"
_PATIENCE_S: Final = 1_800.0
_LOOK_S: Final = 0.2
_WARM_UP_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Scale:
    """How much is moved, at what limits a minute, and how long the load is measured without it."""

    planted: Planted
    requests: int
    tokens: int
    alone_s: float

    @property
    def floor_s(self) -> float:
        """Seconds that the limits alone take: tokens through tokens a minute."""
        return 60.0 * self.planted.memories * TOKENS / self.tokens


# A twentieth of the rows at a quarter of the tokens: 22 seconds instead of 112. The calls stay
# those of tier 1: reads and writes come as often, and would use up a quarter of them alone.
_QUICK: _Scale = _Scale(Planted(5_000, 500), 2_000, 2_000_000, 6.0)


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when a read failed or a vector is missing afterwards."""
    results = Results("migrate", as_json)
    asyncio.run(_run(results, _QUICK if is_quick(arguments) else _full()))
    return results.finish()


def _full() -> _Scale:
    quota = quota_of("voyage", "voyage-4")
    if quota is None:
        raise UnavailableError("bench_no_quota", "The preset of voyage-4 is missing.")
    return _Scale(Planted(100_000, 10_000), int(quota.requests), int(quota.tokens), 40.0)


async def _run(results: Results, scale: _Scale) -> None:
    async with fake_provider("--requests", scale.requests, "--tokens", scale.tokens) as url:
        settings = {
            "ENGRAM_OPENAI_BASE_URL": url,
            "ENGRAM_PROVIDER_RPM": str(scale.requests),
            "ENGRAM_PROVIDER_TPM": str(scale.tokens),
        }
        async with running(_OLD, settings) as stack, open_http(stack) as http:
            with progress("stored before", scale.planted.memories) as show:
                await plant(stack, scale.planted, _OLD, show)
            await quiet(stack)
            await _Run(results, scale, stack, http, url).run()


class _Run:
    """One migration, from its plan to the way back."""

    def __init__(
        self, results: Results, scale: _Scale, stack: Stack, http: httpx.AsyncClient, fake: str
    ) -> None:
        self._results = results
        self._scale = scale
        self._stack = stack
        self._http = http
        self._fake = fake.removesuffix("/v1")
        self._load = Load(http, scale.planted)
        self._id = ""

    async def run(self) -> None:
        await self._load.for_s(_WARM_UP_S)
        with progress("before", self._scale.alone_s):
            before = await self._load.for_s(self._scale.alone_s)
        plan_s = await _timed(self._plan())
        with progress("backfill", self._scale.floor_s):
            total_s, beside = await self._with_load(self._backfill)
        self._told_backfill(plan_s, total_s, before, beside)
        await self._embedded_once()
        self._results.add("index build", await self._index_s(), "s", rows=await self._vectors())
        verify_s, _ = await self._with_load(lambda: self._ask("verify"))
        self._results.add("verify", verify_s, "s", namespaces=self._scale.planted.namespaces)
        for verb in ("cutover", "rollback"):
            await self._switch(verb)
        await self._check()

    async def _plan(self) -> None:
        answer = await self._http.post(_ROUTE, json={"to": _NEW}, timeout=_PATIENCE_S)
        found = answer.raise_for_status().json()
        if found["plan"]["blockers"]:
            raise UnavailableError("bench_stalled", f"Blocked: {found['plan']['blockers']}")
        self._id = found["id"]

    async def _backfill(self) -> None:
        await self._ask("start")
        await self._until(lambda found: found["phase"] == "backfill" and _is_filled(found))

    async def _ask(self, verb: str) -> dict[str, Any]:
        answer = await self._http.post(f"{_ROUTE}/{self._id}/{verb}")
        if answer.status_code != 200:
            raise UnavailableError("bench_stalled", f"{verb} was refused: {answer.text}")
        found = await self._until(lambda found: found["wish"] is None)
        if found["error"]:
            raise UnavailableError("bench_stalled", f"{verb} failed: {found['error']}")
        return found

    async def _until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = (await self._http.get(f"{_ROUTE}/{self._id}")).json()
            if done(found):
                return found
            await asyncio.sleep(_LOOK_S)
        raise UnavailableError("bench_stalled", "The migration did not get there in time.")

    async def _with_load(self, work: Callable[[], Awaitable[Any]]) -> tuple[float, Times]:
        taken_s = 0.0

        async def timed() -> None:
            nonlocal taken_s
            taken_s = await _timed(work())

        times = await self._load.beside(timed())
        return taken_s, times

    def _told_backfill(self, plan_s: float, total_s: float, before: Times, beside: Times) -> None:
        scale = self._scale
        self._results.add("plan", plan_s, "s", memories=scale.planted.memories)
        self._results.add(
            "start to complete", total_s, "s", floor=scale.floor_s, floor_is="tokens / TPM",
            target=_TOTAL, memories=scale.planted.memories, tpm=scale.tokens, text_tokens=TOKENS,
            reads_per_s=PER_S, writes_per_s=PER_S,
        )  # fmt: skip
        pairs = (("search", before.reads, beside.reads), ("ingest", before.writes, beside.writes))
        for what, alone, during in pairs:
            for share, target in ((0.95, _WORSE), (0.5, None)):
                self._results.add(
                    f"{what} during backfill, p{share * 100:.0f}", percentile(during, share), "ms",
                    floor=percentile(alone, share), floor_is="the same before", target=target,
                    requests=len(during),
                )  # fmt: skip

    async def _embedded_once(self) -> None:
        """Count at the provider what was embedded; live writes are embedded there as well."""
        async with httpx.AsyncClient() as client:
            asked = (await client.get(f"{self._fake}/_requests")).json()
        row = await self._row("SELECT count(*) AS memories FROM engram.memory")
        self._results.add(
            "texts sent to the provider", asked["texts"] / row["memories"], "of memories",
            target=_AGAIN, texts=asked["texts"], refused=asked["by_status"].get("429", 0),
        )  # fmt: skip

    async def _index_s(self) -> float:
        return await quiet(replace(self._stack, space=await self._target()))

    async def _switch(self, verb: str) -> None:
        """Move every namespace while reads go on, and report the reads that were not right."""
        seen = self._load.seen
        spaces, bad = seen.spaces.copy(), seen.wrong + seen.failed.total()
        taken_s, times = await self._with_load(lambda: self._ask(verb))
        # Some reads behind it: the pointers as they are now.
        await self._load.for_s(1.0)
        answered = dict(seen.spaces - spaces)
        namespaces = self._scale.planted.namespaces
        self._results.add(
            verb, taken_s, "s", namespaces=namespaces, reads_by_space=answered,
            read_p95_ms=round(percentile(times.reads, 0.95), 1),
        )  # fmt: skip
        failed = seen.wrong + seen.failed.total() - bad
        self._results.add(
            f"failed or mixed reads, {verb}", failed, "reads", target=_NONE,
            reads=sum(answered.values()), failed=dict(seen.failed), wrong=seen.wrong,
        )  # fmt: skip

    async def _check(self) -> None:
        seen, faults = self._load.seen, []
        if seen.wrong or seen.failed:
            faults.append(f"{seen.wrong} reads were wrong, others failed: {dict(seen.failed)}")
        row = await self._row(_CHECK.replace("{new}", f"engram_vec.space_{await self._target()}"))
        if row["memories"] != self._scale.planted.memories + self._load.written:
            faults.append(f"{row['memories']:,} memories, {self._load.written:,} were written")
        # Written within the last seconds: its vector is on its way.
        faults += [f"{row[what]} {what}" for what in ("missing", "stale", "foreign") if row[what]]
        self._results.checked(row["memories"], "memories", faults)

    async def _target(self) -> int:
        return int((await self._row("SELECT max(id) AS id FROM engram.space"))["id"])

    async def _vectors(self) -> int:
        sql = f"SELECT count(*) AS rows FROM engram_vec.space_{await self._target()}"
        return int((await self._row(sql))["rows"])

    async def _row(self, sql: str) -> dict[str, Any]:
        return await self._stack.row(sql)


_CHECK: Final = """
SELECT count(m.id) AS memories,
       count(m.id) FILTER (WHERE v.memory_id IS NULL
                             AND m.versioned_at < now() - interval '10 seconds') AS missing,
       count(m.id) FILTER (WHERE v.version <> m.version) AS stale,
       count(*) FILTER (WHERE m.id IS NULL) AS foreign
FROM engram.memory m
FULL JOIN {new} v ON v.workspace = m.workspace AND v.memory_id = m.id
"""


def _is_filled(found: dict[str, Any]) -> bool:
    states = found["namespaces"]
    return bool(states) and not states.get("waiting") and not states.get("backfilling")


async def _timed(work: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started
