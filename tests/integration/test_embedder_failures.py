"""The embedder against a provider that fails: nothing is lost, misassigned or retried for ever."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engram_cli.bench.fake_provider import FakeProvider
from tests.support.store import Store, embedding_lanes, open_store
from tests.support.wait import eventually

DIMENSIONS = 32


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    """A provider server with faults on demand; a text with "poison" in it is refused."""
    async with FakeProvider(DIMENSIONS, poison="poison") as server:
        yield server


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, fake: FakeProvider
) -> AsyncIterator[Store]:
    """A store whose embedder asks the fake provider."""
    async with open_store(
        database_url,
        nats_url,
        f"openai:local-model@{DIMENSIONS}",
        superuser_url=superuser_url,
        embedder=True,
        openai_base_url=fake.url,
        provider_timeout_s=2.5,
    ) as opened:
        yield opened


async def vectors(store: Store) -> int:
    return int(
        await store.sql.fetchval(
            "SELECT count(*) FROM engram_vec.space_1 v JOIN engram.memory m "
            "ON m.id = v.memory_id AND m.version = v.version"
        )
    )


async def failures(store: Store) -> list[dict[str, Any]]:
    rows = await store.sql.fetch("SELECT * FROM engram.embedding_failure ORDER BY memory_id")
    return [dict(row) for row in rows]


async def due_now(store: Store) -> None:
    await store.sql.execute("UPDATE engram.embedding_failure SET next_attempt = now()")


async def test_a_poison_text_costs_only_itself_and_is_dead_lettered(store: Store) -> None:
    items = [{"content": f"good text {n}", "external_id": f"g{n}"} for n in range(99)]
    items.insert(50, {"content": "a poison text", "external_id": "bad"})
    report = await store.import_(items)
    assert report["imported"] == 100

    async def done() -> bool:
        return await vectors(store) == 99 and any(row["dead"] for row in await failures(store))

    await eventually(done, 20)
    (dead,) = await failures(store)
    content = await store.sql.fetchval(
        "SELECT content FROM engram.memory WHERE id = $1", dead["memory_id"]
    )
    assert content == "a poison text"
    assert dead["class"] == "rejected"
    assert "poison" not in dead["error"]
    counts = (await store.client.get("/v1/workspace")).json()["vectors"]
    assert list(counts.values()) == [{"current": 99, "pending": 0, "dead": 1}]


async def test_a_rate_limit_defers_and_consumes_no_attempt(
    store: Store, fake: FakeProvider
) -> None:
    fake.script("status", status=429, retry_after="1", times=None)
    await store.post("waits for its turn")
    await eventually(lambda: failures(store))
    (row,) = await failures(store)
    assert (row["class"], row["attempts"], row["dead"]) == ("rate_limited", 0, False)
    fake.clear()
    await eventually(lambda: vectors(store), 15)
    assert await failures(store) == []


async def test_an_outage_pauses_the_lane_and_counts_no_attempt(
    store: Store, fake: FakeProvider
) -> None:
    fake.script("status", status=500, times=None)
    for number in range(3):
        await store.post(f"written during the outage {number}")
    await eventually(lambda: _has(store, 3))
    assert {row["attempts"] for row in await failures(store)} == {0}
    fake.clear()
    await due_now(store)
    await eventually(lambda: _vectors_are(store, 3), 30)


async def test_ingest_stays_open_while_the_provider_is_down(
    store: Store, fake: FakeProvider
) -> None:
    fake.script("hang", times=None)
    answer = await store.client.post("/v1/memories", json={"content": "still accepted"})
    assert answer.status_code == 201
    assert answer.json()["embedded"] is False


async def test_a_refused_key_pauses_the_lane_and_loses_nothing(
    store: Store, fake: FakeProvider
) -> None:
    fake.script("status", status=401, times=None)
    await store.post("needs a good key")
    await eventually(lambda: failures(store))
    (row,) = await failures(store)
    assert (row["class"], row["attempts"], row["dead"]) == ("auth", 0, False)


@pytest.mark.parametrize(
    "fault",
    ["html", "truncated", "short_batch", "duplicate_index", "string_index", "wrong_dimension"],
)
async def test_a_broken_answer_stores_no_vector_and_is_tried_again(
    store: Store, fake: FakeProvider, fault: Any
) -> None:
    fake.script(fault, times=1)
    for number in range(3):
        await store.post(f"text {number}")
    await eventually(lambda: _handled(store, fake), 15)
    await due_now(store)
    await eventually(lambda: _vectors_are(store, 3), 20)
    assert await failures(store) == []


@pytest.mark.parametrize("fault", ["nan", "zero", "shuffled"])
async def test_every_stored_vector_belongs_to_its_text(
    store: Store, fake: FakeProvider, fault: Any
) -> None:
    provider = store.service.spaces.provider(1)
    expected = await provider.embed(["alpha text", "beta text", "gamma text"], "document")
    fake.script(fault, times=1)
    await store.import_([{"content": text} for text in ("alpha text", "beta text", "gamma text")])
    await eventually(lambda: _handled(store, fake), 15)
    await due_now(store)
    await eventually(lambda: _vectors_are(store, 3), 20)
    for text, vector in zip(
        ("alpha text", "beta text", "gamma text"), expected.vectors, strict=True
    ):
        distance = await store.sql.fetchval(
            "SELECT v.embedding <=> $2::text::halfvec FROM engram_vec.space_1 v "
            "JOIN engram.memory m ON m.id = v.memory_id WHERE m.content = $1",
            text,
            str(vector.tolist()),
        )
        assert distance < 0.001


async def test_an_equal_text_reuses_the_vector_of_its_workspace(
    store: Store, fake: FakeProvider
) -> None:
    await store.post("said in two places", user_id="alice")
    await eventually(lambda: _vectors_are(store, 1))
    calls = fake.requests.calls
    await store.post("said in two places", user_id="bob")
    await eventually(lambda: _vectors_are(store, 2))
    assert fake.requests.calls == calls


async def test_a_text_changed_while_it_is_embedded_gets_no_stale_vector(
    store: Store, fake: FakeProvider
) -> None:
    fake.script("hang", times=1)
    record = await store.post("the first text")
    await eventually(lambda: fake.requests.calls)
    answer = await store.client.patch(
        f"/v1/memories/{record['id']}", json={"content": "the second text"}
    )
    assert answer.json()["version"] == 2
    await eventually(lambda: _vectors_are(store, 1), 20)
    version = await store.sql.fetchval("SELECT version FROM engram_vec.space_1")
    assert version == 2


async def test_what_waited_for_an_embedder_is_done_when_one_starts(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with open_store(
        database_url, nats_url, "hashing@64", superuser_url=superuser_url
    ) as store:
        await store.import_([{"content": f"before the embedder {n}"} for n in range(20)])
        async with embedding_lanes(store.service):
            await eventually(lambda: _vectors_are(store, 20))


async def _has(store: Store, count: int) -> bool:
    return len(await failures(store)) == count


async def _vectors_are(store: Store, count: int) -> bool:
    return await vectors(store) == count


async def _handled(store: Store, fake: FakeProvider) -> bool:
    """The scripted fault was answered, and every memory has a vector or a failure."""
    total = await store.count()
    return fake.requests.calls > 0 and await vectors(store) + len(await failures(store)) == total
