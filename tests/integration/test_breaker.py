"""An outage of the provider, seen from outside: few calls, nothing closed, all done after it."""

from prometheus_client import REGISTRY

from engram_cli.bench.fake_limits import RateLimit
from engram_cli.bench.fake_provider import FakeProvider
from tests.support.store import Store, open_store
from tests.support.wait import eventually

LABELS = {"provider": "openai", "model": "local-model"}


def breaker() -> float | None:
    return REGISTRY.get_sample_value("engram_provider_breaker", LABELS)


async def vectors(store: Store) -> int:
    return int(await store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1"))


async def test_an_outage_is_met_with_a_few_calls_and_drained_when_it_ends(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with (
        FakeProvider(16) as fake,
        open_store(
            database_url,
            nats_url,
            "openai:local-model@16",
            superuser_url=superuser_url,
            embedder=True,
            openai_base_url=fake.url,
        ) as store,
    ):
        await store.post("written before the outage")
        await eventually(lambda: _has(store, 1))
        calls = fake.requests.calls
        fake.script("status", status=503, times=None)
        await store.post("the first to find out")
        await eventually(lambda: breaker() == 1)
        found_out = fake.requests.calls - calls
        for batch in range(10):
            report = await store.import_([{"content": f"waits {batch} {n}"} for n in range(50)])
            assert report["imported"] == 50
        answer = await store.client.post("/v1/memories/search", json={"query": "before outage"})
        assert answer.status_code == 200
        waiting = "SELECT count(*) FROM engram.embedding_failure WHERE attempts = 0 AND NOT dead"
        await eventually(lambda: _is(store, waiting, 501), 15)
        # The call that failed, the known-good text after it, and one probe if that was due; the
        # search's own question is the query side's.
        assert found_out == 2
        assert fake.requests.calls - calls <= found_out + 3
        fake.clear()
        await eventually(lambda: _has(store, 502), 30)
        assert breaker() == 0
        assert await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure") == 0


async def test_a_store_told_the_providers_limits_pays_for_every_call_and_is_never_refused(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    limit = RateLimit(300, 1_000_000)
    async with (
        FakeProvider(16, limit=limit) as fake,
        open_store(
            database_url,
            nats_url,
            "openai:local-model@16",
            superuser_url=superuser_url,
            embedder=True,
            openai_base_url=fake.url,
            provider_rpm=limit.requests,
            provider_tpm=limit.tokens,
        ) as store,
    ):
        items = [{"content": f"{n} ".ljust(2_000, "x")} for n in range(60)]
        await store.import_(items)
        await eventually(lambda: _has(store, 60), 20)
        assert set(fake.requests.by_status) == {200}
        row = await store.sql.fetchrow("SELECT * FROM engram.provider_budget")
        assert (row["provider"], row["model"]) == ("openai", "local-model")
        assert row["requests"] < 4  # of a burst of 4.5


async def _has(store: Store, count: int) -> bool:
    return await vectors(store) == count


async def _is(store: Store, sql: str, count: int) -> bool:
    return int(await store.sql.fetchval(sql)) == count
