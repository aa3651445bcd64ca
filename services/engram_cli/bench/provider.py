"""``engram bench provider``: the rate budget, an outage, and latency, against the fake provider."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final

import httpx
import numpy as np

from engram.domain.batching import estimate_tokens, pack
from engram.domain.budget import GRANT_S, Quota, fingerprint, quota_of
from engram.domain.retry import OUTAGE_PAUSE_S
from engram.domain.spaces import parse_embedding
from engram.embedding.provider import Embedded, ProviderError
from engram.embedding.registry import ProviderSettings, open_provider
from engram.errors import UnavailableError
from engram.serving.spending import Budget, Spending
from engram.storage.budgets import Account
from engram.storage.connection import Pool
from engram_cli.bench.fake_process import fake_provider
from engram_cli.bench.fake_replies import vector
from engram_cli.bench.figures import Results, Target, is_quick, progress
from engram_cli.bench.outage import OUTAGE_S, simulate
from engram_cli.bench.stack import running
from engram_embedder.gate import Gate

_SUSTAINED: Final = Target(0.95)
_REFUSED: Final = Target(0.01, at_most=True)
_CALLS: Final = Target(1.0, at_most=True)
_RECOVERED: Final = Target(2.0, at_most=True)
_LATENCY: Final = Target(0.9)

_MODEL: Final = "openai:text-embedding-3-small"
# Few numbers a vector where it is the budget that is measured: the fake writes them all out.
_FEW: Final = 8
_USUAL: Final = 1024
_REPLICAS: Final = 3
_TASKS: Final = 6
_TOKENS: Final = 150
_TEXTS: Final = 600
_LATENCY_S: Final = 0.05
_CALL_TEXTS: Final = 100
_LATENCY_TASKS: Final = 40


@dataclass(frozen=True, slots=True)
class _Scale:
    """How long and at what limits; ``rounds`` of each latency, by turns."""

    quota: Quota
    measured_s: float
    rounds: int
    round_s: float


_TIER_1: Final = quota_of("voyage", "voyage-4")
# A minute of six seconds with tier 1's figures for voyage-4-large: ten times its rate.
_SHORT: Final = Quota(2_000, 3_000_000, window_s=6.0, grant_s=GRANT_S / 10)
_QUICK: _Scale = _Scale(_SHORT, 9.0, 2, 2.0)


@dataclass(slots=True)
class _Seen:
    """What the callers got: texts, and vectors that are not their text's."""

    texts: int = 0
    wrong: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    def take(self, texts: list[str], embedded: Embedded) -> None:
        """Count a reply, and check its first and last vector."""
        self.texts += len(texts)
        for row in (0, -1):
            got = embedded.vectors[row]
            self.wrong += not np.allclose(got, vector(texts[row], len(got)), atol=1e-5)


def run(arguments: list[str], as_json: bool) -> int:
    """Run the benchmark; return 1 when a vector was another text's."""
    results = Results("provider", as_json)
    asyncio.run(_run(results, _QUICK if is_quick(arguments) else _full()))
    return results.finish()


def _full() -> _Scale:
    if _TIER_1 is None:
        raise UnavailableError("bench_no_quota", "The preset of voyage-4 is missing.")
    return _Scale(_TIER_1, 120.0, 4, 4.0)


async def _run(results: Results, scale: _Scale) -> None:
    seen = _Seen()
    async with running() as stack:
        await _budget(results, stack.pool, scale, seen)
    _outage(results)
    await _latency(results, scale, seen)
    faults = [f"{seen.wrong} vectors are not those of their texts"] if seen.wrong else []
    results.checked(seen.texts, "vectors", faults, other_errors=seen.faults)


async def _budget(results: Results, pool: Pool, scale: _Scale, seen: _Seen) -> None:
    """Several embedders with more work than the quota allows, after their first window."""
    quota = scale.quota
    limits = ("--requests", quota.requests, "--tokens", quota.tokens, "--window", quota.window_s)
    async with fake_provider(*limits) as url, _client(url) as http:
        replicas = [_replica(url, _FEW, pool, quota) for _ in range(_REPLICAS)]
        stop = asyncio.Event()
        work = [
            asyncio.create_task(_call_on(gate, provider, quota, stop, seen))
            for gate, provider in replicas
            for _ in range(_TASKS)
        ]
        with progress("at the limits", quota.window_s + scale.measured_s) as show:
            before, started = await _after(http, quota.window_s, show, 0.0)
            after, ended = await _after(http, scale.measured_s, show, quota.window_s)
        stop.set()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for _, provider in replicas:
            await provider.close()
    rate = (after["tokens"] - before["tokens"]) / (ended - started)
    params = {"replicas": _REPLICAS, "window_s": quota.window_s, "rpm": quota.requests}
    params |= {"tpm": quota.tokens, "measured_s": scale.measured_s, "text_tokens": _TOKENS}
    allowed = quota.tokens / quota.window_s
    results.add("sustained", rate, "tokens/s", floor=allowed, target=_SUSTAINED, **params)
    calls = after["calls"] - before["calls"]
    refused = _refused(after) - _refused(before)
    share = refused / calls if calls else 1.0
    first = {"in_first_window": _refused(before), "calls": calls}
    results.add("calls answered 429", share, "of calls", target=_REFUSED, **first)


def _outage(results: Results) -> None:
    """The worst of several seeds: the pauses between probes are random."""
    seen = [simulate(seed) for seed in range(1, 6)]
    calls = max(outcome.calls for outcome in seen)
    full_s = max(outcome.full_rate_s for outcome in seen)
    intervals = OUTAGE_S / OUTAGE_PAUSE_S
    params: dict[str, Any] = {"simulated": True, "probe_interval_s": OUTAGE_PAUSE_S}
    results.add(
        "calls during an outage of 600 s", calls / intervals, "calls/interval",
        target=_CALLS, calls=calls, probes=max(outcome.probes for outcome in seen), **params,
    )  # fmt: skip
    results.add(
        "recovery to full rate", full_s / OUTAGE_PAUSE_S, "intervals",
        target=_RECOVERED, drained_s=max(outcome.drained_s for outcome in seen), **params,
    )  # fmt: skip


async def _latency(results: Results, scale: _Scale, seen: _Seen) -> None:
    """The same calls to a fake that answers at once and to one that takes 50 ms, by turns."""
    async with fake_provider() as near, fake_provider("--latency", _LATENCY_S) as far:
        rates: dict[str, list[float]] = {near: [], far: []}
        with progress("latency", 2 * scale.rounds) as show:
            for number in range(scale.rounds):
                for url in (near, far):
                    rates[url].append(await _rate(url, scale.round_s, seen))
                show(2 * (number + 1))
    fast, slow = max(rates[near]), max(rates[far])
    results.add(
        "texts at 50 ms latency", slow, "texts/s", floor=fast, target=_LATENCY,
        call_texts=_CALL_TEXTS, rounds=scale.rounds, dimensions=_USUAL,
    )  # fmt: skip


async def _rate(url: str, seconds: float, seen: _Seen) -> float:
    """Texts a second through a gate of its own, once its window has adapted."""
    gate, provider = _replica(url, _USUAL)
    stop = asyncio.Event()
    work = [
        asyncio.create_task(_call_on(gate, provider, None, stop, seen))
        for _ in range(_LATENCY_TASKS)
    ]
    await asyncio.sleep(seconds / 4)
    before, started = seen.texts, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (seen.texts - before) / (time.perf_counter() - started)
    stop.set()
    await asyncio.gather(*work)
    await provider.close()
    return rate


def _replica(
    url: str, dimensions: int, pool: Pool | None = None, quota: Quota | None = None
) -> tuple[Gate, Spending]:
    """What an embedder puts between its lanes and the provider."""
    spec = parse_embedding(f"{_MODEL}@{dimensions}")
    provider = open_provider(spec, ProviderSettings(openai_base_url=url, timeout_s=30.0))
    budget = None
    if pool is not None and quota is not None:
        account = Account(spec.provider, spec.model, fingerprint("bench"))
        budget = Budget(pool, account, quota)
    return Gate(spec.provider, spec.model), Spending(provider, spec.key, budget)


async def _call_on(
    gate: Gate, provider: Spending, quota: Quota | None, stop: asyncio.Event, seen: _Seen
) -> None:
    """Call as a lane does: packed by the limits, one call after another."""
    texts = [f"{number:06d} ".ljust(_TOKENS * 4, "x") for number in range(_TEXTS)]
    starts = cycle(range(0, _TEXTS, _CALL_TEXTS))
    while not stop.is_set():
        if quota is None:
            start = next(starts)
            batch = texts[start : start + _CALL_TEXTS]
        else:
            tokens = [estimate_tokens(text, provider.ratio) for text in texts]
            limits = provider.limits
            batch = [texts[i] for i in pack(texts, tokens, 512, limits.max_tokens)[0]]
        try:
            seen.take(batch, await gate.embed(provider, batch))
        except ProviderError as error:
            seen.faults[error.error_class] = seen.faults.get(error.error_class, 0) + 1
            await asyncio.sleep(min(error.retry_after_s or 0.1, 1.0))


async def _after(
    http: httpx.AsyncClient, seconds: float, show: Any, done: float
) -> tuple[dict[str, Any], float]:
    """Return the fake's counters after a time, and when that was."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 0.5))
        show(done + seconds - max(0.0, ends - time.monotonic()))
    answer = await http.get("/_requests")
    counters: dict[str, Any] = answer.raise_for_status().json()
    return counters, time.monotonic()


def _refused(counters: dict[str, Any]) -> int:
    return int(counters["by_status"].get("429", 0))


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url.removesuffix("/v1"), timeout=30)
