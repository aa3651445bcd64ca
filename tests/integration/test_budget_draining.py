"""A process that is told to stop waits for no budget: its texts stay in Postgres for another."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from engram.domain.budget import Level, Quota, fingerprint
from engram.domain.spaces import parse_embedding
from engram.embedding.provider import ProviderError
from engram.embedding.registry import ProviderSettings, open_provider
from engram.serving.spending import Budget, Spending
from engram.storage.budgets import Account
from engram.storage.connection import Pool, open_pool
from engram_cli.bench.fake_provider import FakeProvider

ACCOUNT = Account("openai", "local-model", fingerprint(None))
# Some seconds for each further call: longer than this test looks, shorter than patience.
SLOW = Quota(20, 1_000_000)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await open_pool(database_url, "engram_worker", size=4, name="test") as opened:
        yield opened


async def fill(pool: Pool, level: Level) -> None:
    await pool.execute(
        "UPDATE engram.provider_budget SET tokens = $1, requests = $2, share = $3, "
        "refilled_at = now()",
        *(level.tokens, level.requests, level.share),
    )


async def refused(waiting: "asyncio.Future[object]") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await waiting
    return caught.value


async def test_everybody_who_waits_for_the_budget_gives_up_when_the_process_drains(
    pool: Pool,
) -> None:
    budget = Budget(pool, ACCOUNT, SLOW)
    kinds = ["document"] * 20 + ["query"]
    waiting = [asyncio.ensure_future(budget.take(10, kind)) for kind in kinds]  # type: ignore[arg-type]  # both are kinds
    await asyncio.sleep(0)
    done, _ = await asyncio.wait(waiting, timeout=0.5)
    assert not done
    started = time.monotonic()
    budget.drain()
    errors = [await refused(one) for one in waiting]
    assert time.monotonic() - started < 2
    assert {error.error_class for error in errors} == {"rate_limited"}
    assert all((error.retry_after_s or 0) > 0 for error in errors)


async def test_a_draining_process_still_makes_the_calls_that_need_not_wait(pool: Pool) -> None:
    spec = parse_embedding("openai:local-model@8")
    async with FakeProvider(8) as fake:
        provider = open_provider(spec, ProviderSettings(openai_base_url=fake.url))
        spending = Spending(provider, spec.key, Budget(pool, ACCOUNT, SLOW))
        await pool.execute(
            "INSERT INTO engram.provider_budget (provider, model, key_sha256) VALUES ($1, $2, $3)",
            *ACCOUNT.row,
        )
        await fill(pool, Level(SLOW.burst_tokens, 2.0))
        spending.drain()
        assert len((await spending.embed(["in flight"], "document")).vectors) == 1
        error = await refused(asyncio.ensure_future(spending.embed(["too late"], "document")))
        assert (error.error_class, fake.requests.calls) == ("rate_limited", 1)
        await spending.close()


async def test_a_provider_without_a_budget_does_not_mind_draining() -> None:
    spec = parse_embedding("openai:local-model@8")
    async with FakeProvider(8) as fake:
        provider = open_provider(spec, ProviderSettings(openai_base_url=fake.url))
        spending = Spending(provider, spec.key, None)
        spending.drain()
        assert len((await spending.embed(["a text"], "document")).vectors) == 1
        await spending.close()
