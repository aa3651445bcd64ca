"""The fault-injecting provider server itself: what it is told to do is what a client meets."""

import argparse
import random
import statistics
import time

import httpx
import pytest

from engram.domain.budget import quota_of
from engram_cli.bench.fake_latency import Latency
from engram_cli.bench.fake_limits import _VOYAGE_TPM, RateLimit
from engram_cli.bench.fake_provider import FakeProvider, _limit


def drawn(latency: Latency, seed: int = 7, count: int = 4_000) -> list[float]:
    chance = random.Random(seed)
    return [latency.draw_s(chance) for _ in range(count)]


async def ask(fake: FakeProvider, *texts: str, **fields: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10) as client:
        body = {"input": list(texts), "model": "any", **fields}
        return await client.post(f"{fake.url}/embeddings", json=body)


def test_a_constant_latency_is_always_the_same():
    assert set(drawn(Latency.parse("0.05"))) == {0.05}


def test_a_uniform_latency_fills_its_range():
    seconds = drawn(Latency.parse("uniform:0.02:0.2"))
    assert 0.02 <= min(seconds) < 0.025
    assert 0.195 < max(seconds) <= 0.2
    assert statistics.mean(seconds) == pytest.approx(0.11, rel=0.05)


def test_a_lognormal_latency_has_its_median_and_a_long_tail():
    seconds = sorted(drawn(Latency.parse("lognormal:0.05:0.8")))
    assert statistics.median(seconds) == pytest.approx(0.05, rel=0.1)
    # The 99th percentile of a lognormal: median * exp(2.326 * sigma).
    assert seconds[int(0.99 * len(seconds))] == pytest.approx(0.05 * 6.43, rel=0.2)


@pytest.mark.parametrize("text", ["uniform:0:1", "lognormal:0.1:1"])
def test_a_seed_draws_the_same_latencies_again_and_another_seed_others(text):
    latency = Latency.parse(text)
    assert drawn(latency, 1) == drawn(latency, 1)
    assert drawn(latency, 1) != drawn(latency, 2)


@pytest.mark.parametrize(
    "text", ["soon", "uniform:1", "uniform:1:2:3", "normal:1:2", "-1", "nan", "lognormal:inf:1"]
)
def test_what_is_no_latency_is_refused(text):
    with pytest.raises(ValueError, match=r"latency|float"):
        Latency.parse(text)


async def test_an_answer_takes_as_long_as_is_drawn():
    async with FakeProvider(8, latency_s=Latency("uniform", 0.15, 0.2), seed=3) as fake:
        started = time.monotonic()
        assert (await ask(fake, "a")).status_code == 200
        assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize("model", _VOYAGE_TPM)
@pytest.mark.parametrize("tier", [1, 2, 3])
def test_the_documented_limits_are_those_engram_expects(model, tier):
    limit, quota = RateLimit.documented(model, tier), quota_of("voyage", model, tier=tier)
    assert quota is not None
    assert (limit.requests, limit.tokens) == (quota.requests, quota.tokens)


@pytest.mark.parametrize("announced", [True, False])
async def test_above_the_limit_is_429_with_or_without_retry_after(announced):
    async with FakeProvider(8, limit=RateLimit(1, 1_000, 5.0, announced=announced)) as fake:
        assert (await ask(fake, "a")).status_code == 200
        refused = await ask(fake, "b")
        assert refused.status_code == 429
        assert refused.headers.get("retry-after") == ("5" if announced else None)


async def test_a_fault_for_one_text_leaves_other_requests_alone():
    async with FakeProvider(8) as fake:
        fake.script("status", status=503, only="cursed")
        assert (await ask(fake, "plain")).status_code == 200
        assert (await ask(fake, "plain", "a cursed text")).status_code == 503
        assert (await ask(fake, "a cursed text")).status_code == 200


async def test_a_fault_can_come_late():
    async with FakeProvider(8) as fake:
        fake.script("status", status=500, after_s=0.2)
        started = time.monotonic()
        assert (await ask(fake, "a")).status_code == 500
        assert time.monotonic() - started >= 0.2


async def test_faults_come_in_their_order_and_as_often_as_asked():
    async with FakeProvider(8) as fake:
        fake.script("status", status=500, times=2)
        fake.script("status", status=529)
        fake.script("status", status=501, times=None)
        seen = [(await ask(fake, "a")).status_code for _ in range(5)]
        assert seen == [500, 500, 529, 501, 501]
        fake.clear()
        assert (await ask(fake, "a")).status_code == 200
        assert fake.requests.by_status == {500: 2, 529: 1, 501: 2, 200: 1}


async def test_faults_are_scripted_over_http_too():
    async with FakeProvider(8) as fake, httpx.AsyncClient() as client:
        control = fake.url.removesuffix("/v1")
        await client.post(f"{control}/_script", json={"kind": "status", "status": 529})
        assert (await ask(fake, "a")).status_code == 529
        await client.post(f"{control}/_script", json={"kind": "html", "times": None})
        assert (await ask(fake, "a")).text.startswith("<html>")
        await client.post(f"{control}/_clear")
        assert (await ask(fake, "a")).json()["usage"]["total_tokens"] == 1
        assert (await client.get(f"{control}/_requests")).json()["calls"] == 3


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="unknown fault 'fire'"):
        FakeProvider(8).script("fire")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"limits_of": "voyage-4"}, RateLimit(2_000, 8_000_000)),
        ({"requests": 5, "tokens": 100, "window": 2.0}, RateLimit(5, 100, 2.0)),
        ({"requests": 5, "tokens": 9, "silent": True}, RateLimit(5, 9, announced=False)),
        ({"requests": 5}, None),
        ({}, None),
    ],
)
def test_the_command_line_chooses_the_limit(given, expected):
    options = {"limits_of": None, "requests": None, "tokens": None, "window": 60.0, "silent": False}
    assert _limit(argparse.Namespace(**{**options, **given})) == expected
