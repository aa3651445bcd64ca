"""Idempotency keys: one request, one row, however often, however many at once, whoever answers."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def send(store: Store, content: str, key: str = "k", **params: str):
    return await store.client.post(
        "/v1/memories", json={"content": content}, headers={"Idempotency-Key": key}, params=params
    )


async def test_a_repeated_request_gets_the_same_bytes(store: Store) -> None:
    first = await send(store, "tea")
    await store.client.patch(f"/v1/memories/{first.json()['id']}", json={"pinned": True})
    again = await send(store, "tea")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await store.count() == 1


async def test_another_body_under_the_same_key_is_422(store: Store) -> None:
    await send(store, "tea")
    other = await send(store, "ale")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await store.count() == 1


async def test_another_route_under_the_same_key_is_422(store: Store) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"content": "tea"}
    await store.client.post("/v1/memories", json=body, headers=headers)
    other = await store.client.post("/v1/memories/import", json=body, headers=headers)
    assert other.status_code == 422


async def test_an_import_is_replayed_with_the_same_report(store: Store) -> None:
    items = [{"content": f"fact {n}"} for n in range(3)]
    headers = {"Idempotency-Key": "i"}
    first = await store.client.post("/v1/memories/import", json=items, headers=headers)
    again = await store.client.post("/v1/memories/import", json=items, headers=headers)
    assert again.content == first.content
    assert again.json()["imported"] == 3
    dry = await store.client.post(
        "/v1/memories/import", json=items, headers=headers, params={"dry_run": "true"}
    )
    assert dry.json()["duplicates"] == 3


async def test_a_refused_request_frees_its_key(store: Store) -> None:
    await store.client.post("/v1/memories", json={"content": "tea", "external_id": "1"})
    headers = {"Idempotency-Key": "k"}
    for body, status in (
        ({"content": "ale", "external_id": "1"}, 409),
        ({"content": "ale", "external_id": "2"}, 201),
        ({"content": "ale", "external_id": "2"}, 201),
    ):
        answer = await store.client.post("/v1/memories", json=body, headers=headers)
        assert answer.status_code == status


async def test_a_thousand_equal_requests_at_once_make_one_row(store: Store) -> None:
    answers = await asyncio.gather(*(send(store, "tea") for _ in range(1000)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await store.count() == 1


async def test_of_many_bodies_under_one_key_exactly_one_wins(store: Store) -> None:
    answers = await asyncio.gather(*(send(store, f"tea {n % 2}") for n in range(200)))
    assert Counter(a.status_code for a in answers) == {201: 100, 422: 100}
    assert await store.count() == 1


async def test_a_replay_is_given_even_beside_requests_that_misuse_the_key(store: Store) -> None:
    await send(store, "tea")
    answers = await asyncio.gather(
        *(send(store, "ale" if n % 2 == 0 else "tea") for n in range(100))
    )
    assert [answer.status_code for answer in answers] == [422, 201] * 50


async def test_a_key_holds_across_processes(store: Store, database_url: str, nats_url: str) -> None:
    async with open_store(database_url, nats_url) as other:
        pairs = await asyncio.gather(
            *(
                asyncio.gather(
                    send(store, f"fact {n}", f"k{n}"),
                    other.client.post(
                        "/v1/memories",
                        json={"content": f"fact {n}"},
                        headers={
                            "Idempotency-Key": f"k{n}",
                        },
                    ),
                )
                for n in range(50)
            )
        )
    assert all(a.content == b.content for a, b in pairs)
    assert await store.count() == 50


async def test_the_same_text_posted_to_two_processes_at_once_is_one_row(
    store: Store, database_url: str, nats_url: str
) -> None:
    async with open_store(database_url, nats_url) as other:
        made = await asyncio.gather(
            *((store if n % 2 else other).post(f"fact {n // 2}", user_id="a") for n in range(60))
        )
    assert await store.count() == 30
    assert len({record["id"] for record in made}) == 30


async def test_a_connection_cut_before_the_answer_leaves_one_row_for_the_retry(
    store: Store,
) -> None:
    body = json.dumps({"content": "tea"}).encode()
    head = (
        "POST /v1/memories HTTP/1.1\r\nHost: x\r\nIdempotency-Key: cut\r\n"
        f"Authorization: Bearer {store.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with store.listening() as address:
        for _ in range(20):
            _, writer = await asyncio.open_connection(*address)
            writer.write(head + body)
            await writer.drain()
            writer.transport.abort()

        async def stored() -> bool:
            return await store.count() == 1

        await eventually(stored)
    again = await send(store, "tea", "cut")
    assert again.headers.get("idempotency-replayed") in (None, "true")
    assert await store.count() == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "é", "a\tb"])
async def test_a_key_that_cannot_be_is_422(store: Store, key: str) -> None:
    for route in ("/v1/memories", "/v1/memories/import", "/v1/keys"):
        answer = await store.client.post(
            route,
            json={"content": "x", "name": "x"} if route.endswith("keys") else {"content": "x"},
            headers={"Idempotency-Key": key.encode("latin-1")},
        )
        assert answer.status_code == 422
    assert await store.count() == 0


async def test_a_key_that_is_held_elsewhere_is_waited_for(store: Store, superuser_url: str) -> None:
    import asyncpg

    held = await asyncpg.connect(superuser_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute(
        "INSERT INTO engram.idempotency (workspace, key, request_sha256, status, body) "
        "VALUES ($1, 'k', '', 0, '')",
        store.workspace,
    )
    sending = asyncio.create_task(send(store, "tea"))

    async def waiting() -> bool:
        return bool(
            await store.sql.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()"
            )
        )

    await eventually(waiting)
    await transaction.rollback()
    with contextlib.suppress(asyncpg.PostgresError):
        await held.close()
    assert (await sending).status_code == 201
