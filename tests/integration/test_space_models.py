"""A switch of model inside a family: a pointer, and a note on each vector; nothing is embedded."""

from collections.abc import AsyncIterator

import pytest

from engram.errors import ConflictError, NotFoundError
from engram.storage import models
from engram_cli.bench.fake_provider import FakeProvider
from tests.support.store import Store, open_store
from tests.support.wait import eventually

SPACE = 1


async def count(store: Store) -> int:
    return int(await store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1"))


async def embedded(store: Store, wanted: int) -> None:
    async def all_of_them() -> bool:
        return await count(store) == wanted

    await eventually(all_of_them, 20)


async def switch(store: Store, model: str) -> None:
    async with store.service.pool.acquire() as connection, connection.transaction():
        await models.embed_with(connection, SPACE, model, "test")
    await store.service.spaces.refresh()


async def made_by(store: Store) -> dict[str, int]:
    async with store.service.pool.acquire() as connection:
        return await models.made_by(connection, SPACE)


@pytest.fixture
async def voyage(database_url: str, nats_url: str) -> AsyncIterator[tuple[Store, FakeProvider]]:
    async with FakeProvider(256) as fake:
        settings = {"voyage_api_key": "fake", "voyage_base_url": fake.url}
        async with open_store(
            database_url, nats_url, "voyage:voyage-4@256", embedder=True, **settings
        ) as store:
            yield store, fake


async def test_a_switch_embeds_nothing_again_and_each_vector_says_who_made_it(
    voyage: tuple[Store, FakeProvider],
) -> None:
    store, fake = voyage
    for number in range(3):
        await store.post(f"before {number}")
    await embedded(store, 3)
    texts = fake.requests.texts
    await switch(store, "voyage-4-lite")
    after = await stored_until_made_by(store, "voyage-4-lite")
    made = await made_by(store)
    assert made["voyage-4"] + made["voyage-4-lite"] == 3 + after
    assert made["voyage-4"] >= 3
    assert fake.requests.texts - texts == after
    answer = await store.client.post("/v1/memories/search", json={"query": "before 1"})
    found = {hit["memory"]["content"] for hit in answer.json()["results"]}
    assert {"before 0", "before 1", "before 2", "after 0"} <= found
    assert fake.requests.last["model"] == "voyage-4-lite"


async def stored_until_made_by(store: Store, model: str) -> int:
    """Store memories one after another until the lanes have followed; return how many."""
    before, stored = await count(store), 0

    async def followed() -> bool:
        nonlocal stored
        await store.post(f"after {stored}")
        stored += 1
        await embedded(store, before + stored)
        return model in await made_by(store)

    await eventually(followed, 20, 0.2)
    return stored


async def test_a_reused_vector_keeps_the_name_of_the_model_that_made_it(
    voyage: tuple[Store, FakeProvider],
) -> None:
    store, _ = voyage
    await store.post("said by two", user_id="ann")
    await embedded(store, 1)
    await switch(store, "voyage-4-large")
    await store.post("said by two", user_id="bob")
    await embedded(store, 2)
    assert await made_by(store) == {"voyage-4": 2}


async def test_going_back_uses_the_numbers_that_models_had(
    voyage: tuple[Store, FakeProvider],
) -> None:
    store, _ = voyage
    for model in ("voyage-4-lite", "voyage-4-large", "voyage-4", "voyage-4-lite"):
        await switch(store, model)
    rows = await store.sql.fetch("SELECT number, model FROM engram.space_model ORDER BY number")
    assert [tuple(row) for row in rows] == [(1, "voyage-4-lite"), (2, "voyage-4-large")]
    assert store.service.spaces.model_number(SPACE) == 1


async def test_a_model_of_another_family_is_refused(voyage: tuple[Store, FakeProvider]) -> None:
    store, _ = voyage
    with pytest.raises(ConflictError) as refused:
        await switch(store, "voyage-3-large")
    assert refused.value.code == "not_compatible"
    assert "voyage-4-large" in refused.value.cure
    async with store.service.pool.acquire() as connection:
        with pytest.raises(NotFoundError):
            await models.embed_with(connection, 7, "voyage-4-lite", "test")


async def test_an_operator_switches_by_http_and_it_is_audited(
    voyage: tuple[Store, FakeProvider],
) -> None:
    store, _ = voyage
    await store.post("before")
    await embedded(store, 1)
    changed = await store.client.patch("/v1/spaces/1", json={"embeds_with": "voyage-4-large"})
    assert changed.json()["embeds_with"] == "voyage-4-large", changed.text
    shown = (await store.client.get("/v1/spaces/1/models")).json()
    assert shown["vectors"] == {"voyage-4": 1}
    assert shown["family"] == ["voyage-4", "voyage-4-large", "voyage-4-lite"]
    [entry] = (await store.client.get("/v1/audit", params={"kind": "space"})).json()["items"]
    assert entry["subject"] == "1:voyage-4-large"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"embeds_with": "voyage-3-large"}, 409, "not_compatible"),
        ({"embeds_with": ""}, 422, "invalid_memory"),
        ({"model": "voyage-4"}, 422, "invalid_memory"),
        ([], 422, "invalid_memory"),
    ],
)
async def test_a_switch_that_cannot_be_is_refused(
    voyage: tuple[Store, FakeProvider], body: object, status: int, code: str
) -> None:
    store, _ = voyage
    answer = await store.client.patch("/v1/spaces/1", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    gone = await store.client.patch("/v1/spaces/7", json={"embeds_with": "voyage-4-lite"})
    assert (gone.status_code, gone.json()["code"]) == (404, "space_not_found")
