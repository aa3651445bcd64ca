"""Search and context over HTTP: shapes, filters, TTL, words when the provider is down."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engram.embedding.provider import ProviderError
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True
    ) as opened:
        yield opened


async def embedded(store: Store, content: str, **fields: Any) -> dict[str, Any]:
    answer = await store.client.post(
        "/v1/memories?wait=embedded", json={"content": content, **fields}
    )
    record: dict[str, Any] = answer.json()
    assert record["embedded"] is True
    return record


async def search(store: Store, query: str, **options: Any) -> dict[str, Any]:
    answer = await store.client.post("/v1/memories/search", json={"query": query, **options})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def texts(answer: dict[str, Any]) -> list[str]:
    return [result["memory"]["content"] for result in answer["results"]]


async def test_a_search_answers_records_with_scores_in_the_public_shape(store: Store) -> None:
    tea = await embedded(store, "likes green tea", user_id="a", metadata={"from": "crm"})
    await embedded(store, "runs on Sundays", user_id="a")
    answer = await search(store, "green tea", limit=1)
    assert list(answer) == ["results", "space", "route", "degraded"]
    assert (answer["space"], answer["route"], answer["degraded"]) == (
        *("hashing:ngram-1@256", "exact", False),
    )
    [result] = answer["results"]
    assert list(result) == ["memory", "score", "similar"]
    assert result["memory"] == tea
    assert 0 < result["score"] <= 1.0001
    assert result["similar"] == []


async def test_filters_and_namespaces_narrow_a_search(store: Store) -> None:
    await embedded(store, "green tea", user_id="a", metadata={"n": 1}, categories=["drink"])
    await embedded(store, "green teapot", user_id="b", metadata={"n": 2})
    assert texts(await search(store, "green", filters={"user_id": "b"})) == ["green teapot"]
    assert texts(await search(store, "green", namespace="user:a")) == ["green tea"]
    assert texts(await search(store, "green", filters={"metadata.n": {"gte": 2}})) == [
        "green teapot"
    ]
    assert texts(await search(store, "green", filters={"categories": {"contains": "drink"}})) == [
        "green tea"
    ]
    assert texts(await search(store, "green", filters={"NOT": [{"user_id": "a"}]})) == [
        "green teapot"
    ]
    assert texts(await search(store, "green", namespace="nobody")) == []


async def test_an_expired_memory_is_gone_from_search_at_once(store: Store) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    await embedded(store, "green tea", expires_at=soon)

    async def gone() -> bool:
        return texts(await search(store, "green tea")) == []

    await eventually(gone)
    assert await store.count("active") == 1
    await embedded(store, "green tea")
    assert texts(await search(store, "green tea")) == ["green tea"]


async def test_a_deleted_changed_or_absorbed_memory_is_found_as_it_is_now(store: Store) -> None:
    one = await embedded(store, "green tea", external_id="1")
    await store.post("green tea", external_id="2")
    assert len((await search(store, "green tea"))["results"]) == 1
    await store.client.patch(f"/v1/memories/{one['id']}", json={"content": "black coffee"})

    async def renewed() -> bool:
        return texts(await search(store, "black coffee", min_score=0.9)) == ["black coffee"]

    await eventually(renewed)
    await store.client.delete(f"/v1/memories/{one['id']}")
    assert texts(await search(store, "black coffee")) == []


async def test_words_answer_while_a_memory_has_no_vector_and_the_provider_is_down(
    store: Store,
) -> None:
    async def down(*_: object) -> None:
        raise ProviderError("server", "It is down.")

    store.service.spaces.provider(1).embed = down  # type: ignore[method-assign]  # it is down
    await store.post("likes green tea")
    answer = await search(store, "tea")
    assert (answer["route"], answer["degraded"], texts(answer)) == (
        *("lexical", True, ["likes green tea"]),
    )


async def test_context_is_a_block_within_its_tokens(store: Store) -> None:
    made = [await embedded(store, f"likes green tea number {n}") for n in range(5)]
    answer = await store.client.post("/v1/memories/context", json={"query": "green tea"})
    block = answer.json()
    assert list(block) == ["context", "memories", "tokens"]
    assert sorted(block["memories"]) == sorted(record["id"] for record in made)
    assert all(record["content"] in block["context"] for record in made)
    small = await store.client.post(
        "/v1/memories/context", json={"query": "green tea", "max_tokens": 20, "format": "xml"}
    )
    assert small.json()["tokens"] <= 20
    assert len(small.json()["memories"]) < 5


async def test_a_search_that_cannot_be_is_422_with_pointers(store: Store) -> None:
    for body, pointer in (
        ({}, "/query"),
        ({"query": " "}, "/query"),
        ({"query": 7}, "/query"),
        ({"query": "x", "limit": 0}, "/limit"),
        ({"query": "x", "limit": 101}, "/limit"),
        ({"query": "x", "limit": 1.5}, "/limit"),
        ({"query": "x", "nonsense": 1}, "/nonsense"),
        ({"query": "x", "namespace": "a\nb"}, "/namespace"),
        ({"query": "x", "filters": {"nonsense": 1}}, "/filters/nonsense"),
        ({"query": "x", "filters": []}, "/filters"),
        ({"query": "x" * 40_000}, "/query"),
        ([], ""),
    ):
        for route in ("/v1/memories/search", "/v1/memories/context"):
            answer = await store.client.post(route, json=body)
            assert answer.status_code == 422, (route, body, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["errors"][0]["pointer"] == pointer


async def test_each_workspace_finds_only_its_own(store: Store) -> None:
    _, key = await store.other_workspace()
    await embedded(store, "the sapphire heron")
    async with client_of(store.app, key) as client:
        mine = await client.post(
            "/v1/memories?wait=embedded", json={"content": "the emerald heron"}
        )
        assert mine.status_code == 201
        for body in ({"query": "heron"}, {"query": "heron", "namespace": "global"}):
            answer = await client.post("/v1/memories/search", json=body)
            assert texts(answer.json()) == ["the emerald heron"]
        block = await client.post("/v1/memories/context", json={"query": "sapphire heron"})
        assert "sapphire" not in block.json()["context"]


async def test_requests_are_measured_by_route_pattern_and_never_by_id(store: Store) -> None:
    from prometheus_client import generate_latest

    made = await store.post("tea")
    await asyncio.gather(*(store.client.get(f"/v1/memories/{made['id']}") for _ in range(3)))
    await store.client.get("/v1/nothing/here")
    text = generate_latest().decode()
    assert 'route="/v1/memories/{memory_id}"' in text
    assert made["id"] not in text
    assert "nothing" not in text
    assert str(store.workspace) not in text
