"""DELETE: content is gone from every table, a tombstone stays, nothing late brings it back."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from tests.support.store import Store, embedding_lanes, open_store
from tests.support.wait import eventually

SECRET = "the sapphire heron sings at noon"


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def tables_holding(sql: asyncpg.Connection, text: str) -> list[str]:
    """Every table of which a row, or a byte column of it, holds ``text``."""
    tables = await sql.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'r' AND n.nspname IN ('engram', 'engram_vec')"
    )
    found = []
    for table in tables:
        held = await sql.fetchval(
            f"SELECT count(*) FROM {table['name']} t WHERE position($1 in t::text) > 0 "
            "OR position(encode(convert_to($1, 'UTF8'), 'hex') in t::text) > 0",
            text,
        )
        if held:
            found.append(table["name"])
    return sorted(found)


async def test_the_search_for_content_sees_every_place_it_can_be(store: Store) -> None:
    made = await store.client.post(
        "/v1/memories", json={"content": SECRET}, headers={"Idempotency-Key": "a"}
    )
    await store.client.patch(f"/v1/memories/{made.json()['id']}", json={"content": "else"})
    assert await tables_holding(store.sql, SECRET) == [
        "engram.idempotency",
        "engram.memory_revision",
    ]


async def test_a_deleted_text_is_in_no_table_any_more(store: Store) -> None:
    async with embedding_lanes(store.service):
        made = await store.client.post(
            "/v1/memories?wait=embedded",
            json={
                "content": "first draft",
                "external_id": "1",
                "metadata": {"note": SECRET},
                "categories": [SECRET],
            },
            headers={"Idempotency-Key": "a"},
        )
        path = f"/v1/memories/{made.json()['id']}"
        await store.client.patch(path, json={"content": SECRET})
        await store.client.patch(path, json={"content": f"{SECRET} again"})
        for key, fields in (
            ("b", {"external_id": "1"}),
            ("c", {}),
            ("d", {"external_id": "2"}),
        ):
            answer = await store.client.post(
                "/v1/memories",
                json={"content": f"{SECRET} again", **fields},
                headers={"Idempotency-Key": key},
            )
            assert answer.status_code == 200
        assert len(await tables_holding(store.sql, SECRET)) >= 3
        assert (await store.client.delete(path)).status_code == 204
        assert await tables_holding(store.sql, SECRET) == []
        assert await store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1") == 0
        rows = await store.sql.fetch("SELECT state, content, external_id FROM engram.memory")
        assert sorted(tuple(row) for row in rows) == [("deleted", "", "1"), ("deleted", "", "2")]


async def test_a_replayed_request_does_not_bring_a_deleted_memory_back(store: Store) -> None:
    request = {"json": {"content": SECRET}, "headers": {"Idempotency-Key": "a"}}
    made = await store.client.post("/v1/memories", **request)
    await store.client.delete(f"/v1/memories/{made.json()['id']}")
    again = await store.client.post("/v1/memories", **request)
    assert (again.status_code, again.json()["code"]) == (404, "memory_deleted")
    assert SECRET not in again.text
    assert await store.count("active") == 0


async def test_importing_again_does_not_bring_a_deleted_memory_back(store: Store) -> None:
    items = [{"id": "m1", "memory": SECRET, "user_id": "a"}]
    assert (await store.import_(items))["imported"] == 1
    [memory_id] = await store.sql.fetchrow("SELECT id FROM engram.memory")
    await store.client.delete(f"/v1/memories/{memory_id}")
    again = await store.import_(items)
    assert (again["imported"], again["skipped"]) == (0, 1)
    assert await tables_holding(store.sql, SECRET) == []


async def test_a_vector_that_comes_after_the_delete_is_refused(store: Store) -> None:
    made = await store.post(SECRET)
    provider = store.service.spaces.provider(1)
    embed, asked, go = provider.embed, asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> object:
        asked.set()
        await go.wait()
        return await embed(*args)

    provider.embed = slow
    async with embedding_lanes(store.service):
        async with asyncio.timeout(10):
            await asked.wait()
        await store.client.delete(f"/v1/memories/{made['id']}")
        go.set()
        other = await store.client.post("/v1/memories?wait=embedded", json={"content": "later"})
        assert other.json()["embedded"] is True
    vectors = await store.sql.fetch("SELECT memory_id FROM engram_vec.space_1")
    assert [row["memory_id"] for row in vectors] == [UUID(other.json()["id"])]


async def test_a_vector_of_the_old_text_is_refused_and_the_new_one_comes(store: Store) -> None:
    made = await store.post("old text")
    provider = store.service.spaces.provider(1)
    embed, asked, go = provider.embed, asyncio.Event(), asyncio.Event()
    texts: list[str] = []

    async def slow(contents: list[str], kind: str) -> object:
        texts.extend(contents)
        if not go.is_set():
            asked.set()
            await go.wait()
        return await embed(contents, kind)

    provider.embed = slow
    async with embedding_lanes(store.service):
        async with asyncio.timeout(10):
            await asked.wait()
        await store.client.patch(f"/v1/memories/{made['id']}", json={"content": "new text"})
        go.set()

        async def version() -> bool:
            rows = await store.sql.fetch("SELECT version FROM engram_vec.space_1")
            assert 1 not in [row["version"] for row in rows]
            return [row["version"] for row in rows] == [2]

        await eventually(version)
    assert texts == ["old text", "new text"]


async def test_a_repeat_that_lands_during_a_delete_is_erased_with_its_survivor(
    store: Store, superuser_url: str
) -> None:
    survivor = await store.post(SECRET, external_id="1")
    held = await asyncpg.connect(superuser_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT 1 FROM engram.memory FOR UPDATE")
    repeat = asyncio.create_task(store.post(SECRET, external_id="2"))
    await eventually(lambda: _waiting(store.sql, 1))
    delete = asyncio.create_task(store.client.delete(f"/v1/memories/{survivor['id']}"))
    await eventually(lambda: _waiting(store.sql, 2))
    await transaction.rollback()
    await held.close()
    await asyncio.gather(repeat, delete)
    if repeat.result()["state"] == "merged":
        assert await tables_holding(store.sql, SECRET) == []
    states = await store.sql.fetch("SELECT state, merged_into FROM engram.memory ORDER BY state")
    assert ("merged", UUID(survivor["id"])) not in [tuple(row) for row in states]


async def _waiting(sql: asyncpg.Connection, sessions: int) -> bool:
    found = await sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    return bool(found >= sessions)


async def test_a_repeat_that_waited_for_a_delete_is_stored_anew(
    store: Store, superuser_url: str
) -> None:
    first = await store.post(SECRET)
    held = await asyncpg.connect(superuser_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT 1 FROM engram.memory FOR UPDATE")
    delete = asyncio.create_task(store.client.delete(f"/v1/memories/{first['id']}"))
    await eventually(lambda: _waiting(store.sql, 1))
    repeat = asyncio.create_task(store.client.post("/v1/memories", json={"content": SECRET}))
    await eventually(lambda: _waiting(store.sql, 2))
    await transaction.rollback()
    await held.close()
    await asyncio.gather(repeat, delete)
    assert (repeat.result().status_code, delete.result().status_code) == (201, 204)
    assert repeat.result().json()["id"] != first["id"]
    assert await store.count("active") == 1


async def test_a_named_repeat_that_meets_a_delete_spoils_no_other_request(
    store: Store, superuser_url: str
) -> None:
    first = await store.post(SECRET, external_id="1")
    held = await asyncpg.connect(superuser_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT 1 FROM engram.memory FOR UPDATE")
    delete = asyncio.create_task(store.client.delete(f"/v1/memories/{first['id']}"))
    await eventually(lambda: _waiting(store.sql, 1))
    named = {"content": SECRET, "external_id": "1"}
    posts = [
        asyncio.create_task(store.client.post("/v1/memories", json=body))
        for body in (named, {"content": "neighbour"}, {"content": "another"})
    ]
    await eventually(lambda: _waiting(store.sql, 2))
    await transaction.rollback()
    await held.close()
    await asyncio.gather(delete, *posts)
    assert [post.result().status_code for post in posts] == [409, 201, 201]


async def test_deleting_a_merged_repeat_leaves_its_survivor(store: Store) -> None:
    survivor = await store.post("tea", external_id="1")
    repeat = await store.post("tea", external_id="2")
    await store.client.delete(f"/v1/memories/{repeat['id']}")
    shown = await store.client.get(f"/v1/memories/{survivor['id']}")
    assert (shown.status_code, shown.json()["content"]) == (200, "tea")
