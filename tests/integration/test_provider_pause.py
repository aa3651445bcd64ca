"""A 429 where no quota is known: the process remembers it for all of its lanes."""

import time
from collections.abc import AsyncIterator

import pytest

from engram.domain.spaces import parse_embedding
from engram.embedding.provider import ProviderError
from engram.embedding.registry import ProviderSettings, open_provider
from engram.serving.spending import Spending
from engram_cli.bench.fake_provider import FakeProvider


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(8) as server:
        yield server


@pytest.fixture
async def spending(fake: FakeProvider) -> AsyncIterator[Spending]:
    spec = parse_embedding("openai:local-model@8")
    provider = open_provider(spec, ProviderSettings(openai_base_url=fake.url))
    opened = Spending(provider, spec.key, None)
    yield opened
    await opened.close()


async def refusal(spending: Spending) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await spending.embed(["a text"], "document")
    assert caught.value.error_class == "rate_limited"
    return caught.value


@pytest.mark.parametrize(("told", "least_s"), [("30", 30.0), (None, 1.0), ("0", 1.0)])
async def test_nobody_asks_again_before_the_time_it_was_told_or_a_second(
    spending: Spending, fake: FakeProvider, told: str | None, least_s: float
) -> None:
    fake.script("status", status=429, retry_after=told)
    await refusal(spending)
    for lane in (spending, spending.behind(), spending.behind().behind()):
        assert (await refusal(lane)).retry_after_s == pytest.approx(least_s, abs=0.5)
    assert fake.requests.calls == 1


async def test_afterwards_it_is_asked_again(spending: Spending, fake: FakeProvider) -> None:
    fake.script("status", status=429)
    started = time.monotonic()
    wait_s = (await refusal(spending)).retry_after_s
    while wait_s is None or wait_s > 0:
        try:
            await spending.embed(["a text"], "document")
        except ProviderError as error:
            wait_s = error.retry_after_s
        else:
            break
    assert time.monotonic() - started >= 1.0
    assert fake.requests.by_status == {429: 1, 200: 1}


async def test_a_time_beyond_an_hour_is_not_believed(
    spending: Spending, fake: FakeProvider
) -> None:
    fake.script("status", status=429, retry_after="31536000")
    await refusal(spending)
    assert 3500 < ((await refusal(spending)).retry_after_s or 0) <= 3600


async def test_another_failure_lets_the_next_call_through(
    spending: Spending, fake: FakeProvider
) -> None:
    fake.script("status", status=503, retry_after="30")
    with pytest.raises(ProviderError):
        await spending.embed(["a text"], "document")
    assert len((await spending.embed(["a text"], "document")).vectors) == 1
