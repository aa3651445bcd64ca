"""Freshness is counted when the vector is there: a provider that fails must not look fresh."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from engram_cli.bench.fake_provider import FakeProvider
from tests.support.store import Store, open_store
from tests.support.wait import eventually

DIMENSIONS = 32
SPACE = f"openai:local-model@{DIMENSIONS}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(DIMENSIONS) as server:
        yield server


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, fake: FakeProvider
) -> AsyncIterator[Store]:
    async with open_store(
        database_url,
        nats_url,
        SPACE,
        superuser_url=superuser_url,
        embedder=True,
        openai_base_url=fake.url,
        provider_price=2.0,
    ) as opened:
        yield opened


def observed(lane: str, of: str = "count") -> float:
    labels = {"space": SPACE, "lane": lane}
    return REGISTRY.get_sample_value(f"engram_freshness_seconds_{of}", labels) or 0.0


async def acknowledged(store: Store) -> bool:
    info = await store.service.jetstream.consumer_info("ENGRAM_MEMORY", "embed-live-1")
    return info.num_pending == 0 and info.num_ack_pending == 0 and info.delivered.stream_seq > 0


async def vectors(store: Store) -> int:
    return int(await store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1"))


async def test_a_memory_is_counted_once_when_it_has_its_vector(store: Store) -> None:
    before = observed("live")
    await store.post("fresh")
    await eventually(lambda: observed("live") == before + 1)
    assert await vectors(store) == 1


async def test_what_failed_is_not_fresh_and_counts_as_a_retry_when_it_is_there(
    store: Store, fake: FakeProvider
) -> None:
    live, retry, late_s = observed("live"), observed("retry"), observed("retry", "sum")
    fake.script("status", status=429, retry_after="1", times=None)
    await store.post("comes late")
    await eventually(lambda: store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure"))
    await eventually(lambda: acknowledged(store))
    assert observed("live") == live
    fake.clear()
    await eventually(lambda: observed("retry") == retry + 1, 15)
    assert await vectors(store) == 1
    assert observed("live") == live
    assert observed("retry", "sum") - late_s > 0.5


async def test_what_tokens_cost_is_counted_at_the_price_that_is_paid(store: Store) -> None:
    def counted(metric: str) -> float:
        labels = {"space": SPACE, "kind": "document"}
        return REGISTRY.get_sample_value(f"engram_provider_{metric}_total", labels) or 0.0

    tokens, dollars = counted("tokens"), counted("cost_dollars")
    await store.post("costs a little")
    await eventually(lambda: counted("tokens") > tokens)
    spent = counted("cost_dollars") - dollars
    assert spent == pytest.approx((counted("tokens") - tokens) * 2.0 / 1e6)
