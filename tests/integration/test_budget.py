"""The shared budget on a real server: ten replicas stay under one quota."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engram.domain import budget as rules
from engram.domain.budget import Level, Quota, fingerprint
from engram.domain.spaces import parse_embedding
from engram.embedding.provider import ProviderError
from engram.embedding.registry import ProviderSettings, open_provider
from engram.serving.spaces import SpaceRegistry
from engram.serving.spending import Budget, Spending
from engram.settings import Settings
from engram.storage import budgets
from engram.storage.budgets import Account
from engram.storage.connection import Pool, open_pool
from engram_cli.bench.fake_provider import FakeProvider
from tests.support.wait import eventually

ACCOUNT = Account("voyage", "voyage-4", fingerprint("pa-key"))
# A minute of two seconds: the arithmetic is the same, and nobody waits.
QUOTA = Quota(200, 200_000, window_s=2.0, grant_s=0.05)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await open_pool(database_url, "engram_worker", size=10, name="test") as opened:
        yield opened


async def row(pool: Pool) -> asyncpg.Record:
    return await pool.fetchrow(
        "SELECT tokens, requests, share, closed_until > now() AS closed, "
        "extract(epoch FROM closed_until - now())::float8 AS closed_s "
        "FROM engram.provider_budget"
    )


async def set_back(pool: Pool, level: Level, elapsed_s: float) -> None:
    """Write a level into the row as it was some seconds ago."""
    await pool.execute(
        "UPDATE engram.provider_budget SET tokens = $1, requests = $2, share = $3, "
        "refilled_at = now() - make_interval(secs => $4), closed_until = '-infinity', "
        "document_at = now() - make_interval(secs => $4 - $5), "
        "owed_at = now() - make_interval(secs => $4 - $6), owed_tokens = $7",
        *(level.tokens, level.requests, level.share, elapsed_s),
        *(max(level.document_at, -1e6), max(level.owed_at, -1e6), level.owed_tokens),
    )


async def test_the_statement_does_the_arithmetic_of_the_rule(pool: Pool) -> None:
    quota = Quota(2_000, 8_000_000)
    chance = random.Random(7)
    async with pool.acquire() as connection:
        await budgets.take(connection, ACCOUNT, quota, 1, query=False)
        for _ in range(60):
            level = Level(
                tokens=chance.uniform(-1, 1) * quota.burst_tokens,
                requests=chance.uniform(-1, 1) * quota.burst_requests,
                share=chance.uniform(0.05, 1),
                document_at=chance.choice([0.0, -100.0]),
                owed_at=chance.choice([0.0, -100.0]),
                owed_tokens=chance.uniform(0, 1) * quota.burst_tokens,
            )
            elapsed_s, wanted = chance.choice([0, 0.1, 0.6, 3]), chance.randrange(1, 200_000)
            query = chance.random() < 0.5
            await set_back(pool, level, elapsed_s)
            answer = await budgets.take(connection, ACCOUNT, quota, wanted, query=query)
            after, wait_s = rules.take(level, quota, elapsed_s, wanted, query=query)
            # The statement's clock has gone on a little since the row was written.
            assert answer.wait_s == pytest.approx(wait_s, abs=0.2)
            if wait_s == 0:
                left = await row(pool)
                assert left["tokens"] == pytest.approx(after.tokens, abs=quota.tokens_per_s * 0.1)
                assert left["requests"] == pytest.approx(after.requests, abs=5)
                assert left["share"] == pytest.approx(after.share, abs=0.01)


async def test_ten_replicas_together_stay_under_one_quota_and_use_it(pool: Pool) -> None:
    """Each asks as fast as it can; what they were granted is summed over every window."""
    sent: list[tuple[float, int]] = []
    ends = time.monotonic() + 4.0
    chance = random.Random(3)

    async def replica() -> None:
        budget = Budget(pool, ACCOUNT, QUOTA)
        while (now := time.monotonic()) < ends:
            wanted = chance.randrange(100, QUOTA.max_call_tokens)
            try:
                await budget.take(wanted, "document", patience_s=ends - now)
            except ProviderError:
                return
            sent.append((time.monotonic(), wanted))

    await asyncio.gather(*(replica() for _ in range(10)))
    assert len({wanted for _, wanted in sent}) > 10
    for start, _ in sent:
        window = [wanted for at, wanted in sent if start <= at < start + QUOTA.window_s]
        assert sum(window) <= QUOTA.tokens
        assert len(window) <= QUOTA.requests
    # Without this, a budget that grants nothing would pass.
    assert sum(wanted for _, wanted in sent) >= 0.6 * 4.0 / QUOTA.window_s * QUOTA.tokens


async def test_two_at_the_same_moment_are_ordered_and_the_second_sees_what_is_left(
    pool: Pool, superuser_url: str
) -> None:
    """The first holds the row; the second waits for it rather than reading the row before it."""
    quota = Quota(2_000, 8_000_000)
    watching = await asyncpg.connect(superuser_url)

    async def one_waits() -> bool:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await watching.fetchval(sql))

    async with pool.acquire() as first, pool.acquire() as second:
        await budgets.take(first, ACCOUNT, quota, 1, query=False)
        await set_back(pool, Level(50_000.0, 20.0), 0.0)
        async with first.transaction():
            one = await budgets.take(first, ACCOUNT, quota, 50_000, query=True)
            other = asyncio.ensure_future(budgets.take(second, ACCOUNT, quota, 50_000, query=True))
            await eventually(one_waits)
        assert one.wait_s == 0
        assert (await other).wait_s > 0.1
        assert (await row(pool))["tokens"] < 20_000
    await watching.close()


async def test_what_a_dead_replica_took_comes_back_with_time(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await budgets.take(connection, ACCOUNT, QUOTA, 1, query=False)
        await set_back(pool, Level(), QUOTA.window_s)
        dead = await budgets.take(connection, ACCOUNT, QUOTA, 80_000, query=False)
        assert dead.wait_s == 0
    await Budget(pool, ACCOUNT, QUOTA).take(5_000, "document", patience_s=3.0)


async def test_without_a_database_it_waits_and_grants_nothing(database_url: str) -> None:
    closed = await open_pool(database_url, "engram_worker", size=1, name="test")
    budget = Budget(closed, ACCOUNT, QUOTA)
    await budget.take(1, "query", patience_s=3.0)
    await closed.close()
    with pytest.raises(ProviderError) as refused:
        await budget.take(1, "document", patience_s=0.2)
    assert refused.value.error_class == "rate_limited"


async def test_a_429_of_one_replica_slows_every_other(pool: Pool) -> None:
    one, other = Budget(pool, ACCOUNT, QUOTA), Budget(pool, ACCOUNT, QUOTA)
    await one.take(10, "document", patience_s=3.0)
    await one.cut(60.0)
    left = await row(pool)
    assert left["share"] == pytest.approx(0.5, abs=0.02)
    assert 55 < left["closed_s"] <= 60
    started = time.monotonic()
    with pytest.raises(ProviderError) as refused:
        await other.take(10, "query", patience_s=5.0)
    assert time.monotonic() - started < 2.0  # it does not wait for what will not come
    assert 50 < (refused.value.retry_after_s or 0) <= 60


async def test_a_429_that_names_no_time_and_one_that_names_a_century_are_bounded(
    pool: Pool,
) -> None:
    budget = Budget(pool, ACCOUNT, QUOTA)
    await budget.take(10, "document", patience_s=3.0)
    await budget.cut(None)
    assert (await row(pool))["closed"] is False
    await budget.cut(3e9)
    assert (await row(pool))["closed_s"] <= 3_600
    # Refused together: halved once.
    assert (await row(pool))["share"] == pytest.approx(0.5, abs=0.05)


async def test_tokens_are_paid_as_the_provider_counted_them(pool: Pool) -> None:
    """The fake counts 4 characters a token; the first estimate is higher, and then it is learnt."""
    spec = parse_embedding("openai:local-model@8")
    async with FakeProvider(8) as fake:
        provider = open_provider(spec, ProviderSettings(openai_base_url=fake.url))
        quota = Quota(100_000, 10_000_000)
        spending = Spending(provider, spec.key, Budget(pool, ACCOUNT, quota))
        await spending.embed(["x" * 40_000], "document")
        level = await row(pool)
        assert level["tokens"] <= quota.burst_tokens
        for _ in range(30):
            await spending.embed(["x" * 400], "document")
        assert spending.ratio == pytest.approx(0.25, rel=0.05)
        await spending.close()


async def test_a_429_answer_cuts_the_shared_rate(pool: Pool) -> None:
    spec = parse_embedding("openai:local-model@8")
    async with FakeProvider(8) as fake:
        provider = open_provider(spec, ProviderSettings(openai_base_url=fake.url))
        spending = Spending(provider, spec.key, Budget(pool, ACCOUNT, QUOTA))
        fake.script("status", status=429, retry_after="30")
        with pytest.raises(ProviderError):
            await spending.embed(["a text"], "document")
        left = await row(pool)
        assert left["closed"] is True
        assert left["share"] == pytest.approx(0.5, abs=0.02)
        await spending.close()


async def test_the_row_holds_no_key_and_other_roles_may_not_read_it(
    pool: Pool, database_url: str
) -> None:
    settings = Settings(embedding="voyage", VOYAGE_API_KEY="pa-very-secret", provider_tier=2)
    registry = SpaceRegistry(pool, settings)
    budget = registry._budget(parse_embedding("voyage:voyage-4@1024"))
    assert budget is not None
    assert budget.quota == Quota(4_000, 16_000_000)
    await budget.take(1, "query", patience_s=3.0)
    stored = await pool.fetchval("SELECT b::text FROM engram.provider_budget b")
    assert fingerprint("pa-very-secret") in stored
    assert "secret" not in stored
    api = await asyncpg.connect(database_url, server_settings={"role": "engram_api"})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await api.fetch("SELECT * FROM engram.provider_budget")
    await api.close()
