"""Ingest commands over NATS: done once, in order, and what cannot be done is put aside."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import nats
import pytest
from nats.js import JetStreamContext

from engram import events
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, commands=True
    ) as opened:
        yield opened


@pytest.fixture
async def jetstream(store: Store, nats_url: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(nats_url)
    yield client.jetstream()
    await client.close()


def command(kind: str, data: Any, event_id: str | None = None) -> bytes:
    return events.encode_command(
        event_id or str(uuid4()), kind, data, datetime.now(UTC), "urn:test"
    )


async def publish(store: Store, jetstream: JetStreamContext, *messages: bytes) -> None:
    for message in messages:
        await jetstream.publish(events.ingest_subject(str(store.workspace)), message)


async def drained(jetstream: JetStreamContext) -> bool:
    info = await jetstream.stream_info("ENGRAM_INGEST")
    return bool(info.state.messages == 0)


async def letters(store: Store) -> list[tuple[Any, ...]]:
    rows = await store.sql.fetch(
        "SELECT workspace, code, detail, payload FROM engram.dead_letter ORDER BY id"
    )
    return [tuple(row) for row in rows]


async def test_one_or_many_memories_are_created_by_a_command(
    store: Store, jetstream: JetStreamContext
) -> None:
    await publish(
        store,
        jetstream,
        command("create", {"content": "one", "user_id": "a"}),
        command("create", {"memories": [{"content": "two"}, {"content": "three"}]}),
    )
    await eventually(lambda: drained(jetstream))
    items = (await store.client.get("/v1/memories")).json()["items"]
    assert sorted(item["content"] for item in items) == ["one", "three", "two"]
    assert await letters(store) == []


async def test_updates_and_deletes_name_an_id_or_an_external_id(
    store: Store, jetstream: JetStreamContext
) -> None:
    one = await store.post("one")
    two = await store.post("two", source="crm", external_id="2")
    three = await store.post("three", external_id="3")
    await publish(
        store,
        jetstream,
        command("update", {"id": one["id"], "content": "one!"}),
        command("update", {"memories": [{"source": "crm", "external_id": "2", "pinned": True}]}),
        command("delete", {"external_id": "3"}),
    )
    await eventually(lambda: drained(jetstream))
    shown = [(await store.client.get(f"/v1/memories/{m['id']}")) for m in (one, two, three)]
    assert (shown[0].json()["content"], shown[0].json()["version"]) == ("one!", 2)
    assert shown[1].json()["pinned"] is True
    assert shown[2].status_code == 404
    history = await store.client.get(f"/v1/memories/{one['id']}/history")
    assert history.json()["items"][1]["actor"] == "nats:urn:test"


async def test_a_command_that_comes_twice_is_done_once(
    store: Store, jetstream: JetStreamContext
) -> None:
    once = command("create", {"content": "tea"}, "e1")
    made = await store.post("counted")
    twice = command("update", {"id": made["id"], "content": "counted again"}, "e2")
    await publish(store, jetstream, once, twice, once, twice)
    await eventually(lambda: drained(jetstream))
    await store.client.patch(f"/v1/memories/{made['id']}", json={"content": "by hand"})
    await publish(store, jetstream, once, twice)
    await eventually(lambda: drained(jetstream))
    shown = await store.client.get(f"/v1/memories/{made['id']}")
    assert (shown.json()["content"], shown.json()["version"]) == ("by hand", 3)
    assert await store.count() == 2
    assert await letters(store) == []


async def test_another_body_under_a_known_event_id_is_put_aside_whole(
    store: Store, jetstream: JetStreamContext
) -> None:
    other = command("create", {"content": "ale"}, "e1")
    await publish(store, jetstream, command("create", {"content": "tea"}, "e1"), other)
    await eventually(lambda: drained(jetstream))
    assert [(letter[1], letter[3]) for letter in await letters(store)] == [
        ("idempotency_key_reused", other)
    ]
    assert await store.count() == 1


async def test_commands_of_one_memory_are_done_in_the_order_they_were_sent(
    store: Store, jetstream: JetStreamContext
) -> None:
    messages = []
    for n in range(10):
        name = {"source": "crm", "external_id": str(n)}
        messages.append(command("create", {"content": f"v1 of {n}", **name}))
        messages.append(command("update", {"content": f"v2 of {n}", **name}))
        messages.append(command("update", {"content": f"v3 of {n}", **name}))
    await publish(store, jetstream, *messages)
    await eventually(lambda: drained(jetstream), timeout_s=20)
    rows = await store.sql.fetch("SELECT content, version FROM engram.memory")
    assert sorted(tuple(row) for row in rows) == [(f"v3 of {n}", 3) for n in range(10)]


async def test_single_bad_items_are_put_aside_and_the_good_are_done(
    store: Store, jetstream: JetStreamContext
) -> None:
    known = await store.post("known", external_id="1")
    gone = await store.post("gone", external_id="2")
    await store.client.delete(f"/v1/memories/{gone['id']}")
    deep: Any = 1
    for _ in range(600):
        deep = [deep]
    await publish(
        store,
        jetstream,
        command(
            "create",
            {
                "memories": [
                    {"content": "good"},
                    {"content": ""},
                    {"content": "x", "nonsense": 1},
                    {"content": "clashing", "external_id": "1"},
                    {"content": "gone", "external_id": "2"},
                    {"content": "x", "metadata": {"deep": deep}},
                    7,
                ]
            },
        ),
        command(
            "update",
            {
                "memories": [
                    {"id": known["id"], "pinned": True},
                    {"id": "nonsense", "pinned": True},
                    {"id": str(uuid4()), "pinned": True},
                    {"pinned": True},
                    {"id": known["id"], "user_id": "b"},
                ]
            },
        ),
        command("delete", {"memories": [{"id": gone["id"]}, {"id": known["id"], "x": 1}]}),
    )
    await eventually(lambda: drained(jetstream))
    found = await letters(store)
    assert [letter[1] for letter in found] == [
        *["invalid_memory"] * 4,
        "external_id_taken",
        "external_id_deleted",
        *["invalid_memory"] * 3,
        "memory_not_found",
        "invalid_memory",
        "memory_not_found",
    ]
    assert {letter[0] for letter in found} == {store.workspace}
    assert all(letter[2] for letter in found)
    assert json.loads(found[5][3]) == {"source": "native", "external_id": "2"}
    states = await store.sql.fetch("SELECT state, content FROM engram.memory ORDER BY id")
    assert [tuple(row) for row in states] == [
        ("active", "known"),
        ("deleted", ""),
        ("active", "good"),
    ]
    assert (await store.client.get(f"/v1/memories/{known['id']}")).json()["pinned"] is True


BAD = [
    *(b"", b"{", b"nonsense", b"\xff", b"\0", b"null", b"7", b"[]", b"{}", b"NaN"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'{"specversion":"1.0"}'),
]
GOOD = command("create", {"content": "x"}, "e")


async def test_a_bad_message_becomes_a_dead_letter_and_blocks_no_neighbour(
    store: Store, jetstream: JetStreamContext
) -> None:
    envelope = json.loads(GOOD)
    bad = [
        *BAD,
        GOOD.replace(b'"x"', b'"\xff"'),
        GOOD.replace(b'"x"', b'"a\\u0000b"'),
        GOOD.replace(b'"x"', b'"\\ud800"'),
        GOOD.replace(b'"x"', b"NaN"),
        GOOD.replace(b'"x"', b"1e400"),
        GOOD.replace(b'"x"', b"1e130000"),
        GOOD.replace(b'"x"', b"1" * 40),
        json.dumps({**envelope, "type": "engram.memory.create.v2"}).encode(),
        json.dumps({**envelope, "id": ""}).encode(),
        json.dumps({**envelope, "id": 7}).encode(),
        json.dumps({**envelope, "source": "x" * 513}).encode(),
        json.dumps({**envelope, "data": {"memories": []}}).encode(),
        json.dumps({**envelope, "data": {"memories": [{"content": "x"}] * 501}}).encode(),
        json.dumps({**envelope, "data": {"memories": [], "workspace": "x"}}).encode(),
        json.dumps({**envelope, "data": None}).encode(),
    ]
    for message in bad:
        await publish(store, jetstream, message)
    await publish(store, jetstream, command("create", {"content": "after them all"}))
    await eventually(lambda: drained(jetstream), timeout_s=20)
    found = await letters(store)
    assert len(found) == len(bad)
    assert all(code and detail for _, code, detail, _ in found)
    items = (await store.client.get("/v1/memories")).json()["items"]
    assert [item["content"] for item in items] == ["after them all"]


async def test_a_subject_that_names_no_workspace_is_a_dead_letter(
    store: Store, jetstream: JetStreamContext
) -> None:
    subjects = ["nonsense", str(uuid4()), str(store.workspace).upper(), "é", "a\x00b", "x" * 900]
    for name in subjects:
        await jetstream.publish(f"engram.v1.ingest.{name}", command("create", {"content": "x"}))
    await eventually(lambda: drained(jetstream), timeout_s=15)
    found = await letters(store)
    assert len(found) == len(subjects)
    assert {letter[0] for letter in found} == {None}
    assert await store.sql.fetchval("SELECT count(*) FROM engram.memory") == 0


async def test_the_workspace_is_the_subjects_and_never_the_bodys(
    store: Store, jetstream: JetStreamContext
) -> None:
    other, key = await store.other_workspace()
    mine = await store.post("mine", external_id="1")
    subject = events.ingest_subject(str(other))
    for message in (
        command("create", {"content": "theirs"}),
        command("update", {"id": mine["id"], "content": "stolen"}),
        command("delete", {"id": mine["id"]}),
        command("delete", {"external_id": "1"}),
    ):
        await jetstream.publish(subject, message)
    await eventually(lambda: drained(jetstream))
    assert [letter[1] for letter in await letters(store)] == ["memory_not_found"] * 3
    shown = await store.client.get(f"/v1/memories/{mine['id']}")
    assert shown.json()["content"] == "mine"
    async with client_of(store.app, key) as client:
        items = (await client.get("/v1/memories")).json()["items"]
    assert [item["content"] for item in items] == ["theirs"]


async def test_a_command_is_acknowledged_only_after_its_commit(
    store: Store, jetstream: JetStreamContext, superuser_url: str
) -> None:
    import asyncpg

    await store.post("first")
    held = await asyncpg.connect(superuser_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT 1 FROM engram.namespace FOR UPDATE")
    await publish(store, jetstream, command("create", {"content": "second"}))

    async def waiting() -> bool:
        return bool(
            await store.sql.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()"
            )
        )

    await eventually(waiting)
    assert not await drained(jetstream)
    await transaction.rollback()
    await held.close()
    await eventually(lambda: drained(jetstream))
    assert await store.count() == 2


async def test_a_failure_nobody_foresaw_is_put_aside_in_the_end(
    store: Store, jetstream: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram_ingest import subscription

    monkeypatch.setattr(subscription, "_MOST_DELIVERIES", 2)
    monkeypatch.setattr(subscription, "_COME_AGAIN_S", 0.01)

    async def broken(*_: object) -> None:
        raise RuntimeError

    store.lane._handle = broken  # type: ignore[method-assign]  # a defect, made to order
    message = command("create", {"content": "x"})
    await publish(store, jetstream, message)
    await eventually(lambda: drained(jetstream))
    assert [(code, payload) for _, code, _, payload in await letters(store)] == [
        ("internal", message)
    ]


async def test_a_put_stores_what_is_new_and_changes_what_is_known(
    store: Store, jetstream: JetStreamContext
) -> None:
    row = {"id": "m1", "memory": "likes tea", "user_id": "a", "hash": "9f"}
    for text in ("likes tea", "likes mate", "likes mate"):
        data = {"format": "mem0", "memories": [{**row, "memory": text}]}
        await publish(store, jetstream, command("put", data))
        await eventually(lambda: drained(jetstream))
    named = {"source": "mem0", "external_id": "m1"}
    [found] = (await store.client.get("/v1/memories", params=named)).json()["items"]
    assert (found["content"], found["namespace"], found["version"]) == ("likes mate", "user:a", 2)
    await publish(store, jetstream, command("delete", {**named, "remember": True}))
    late = {"format": "mem0", "memories": [row]}
    await publish(store, jetstream, command("put", late))
    await eventually(lambda: drained(jetstream))
    assert await store.count("deleted") == 1
    assert await letters(store) == []


async def test_rows_of_a_put_that_cannot_be_read_are_put_aside(
    store: Store, jetstream: JetStreamContext
) -> None:
    good = {"id": "1", "memory": "good"}
    await publish(
        store,
        jetstream,
        command("put", {"format": "nonsense", "memories": [good]}),
        command("put", {"format": "mem0", "memories": [good, {"id": "2"}]}),
        command("put", {"format": "zep", "memories": [{"facts": ["a", "b"]}]}),
        command("put", {"format": "mem0", "memories": [good], "more": 1}),
    )
    await eventually(lambda: drained(jetstream))
    found = await letters(store)
    assert [code for _, code, *_ in found] == [
        "unknown_format", "invalid_memory", "bad_command", "bad_command"
    ]  # fmt: skip
    assert json.loads(found[1][3])["data"] == {"format": "mem0", "memories": [{"id": "2"}]}
    assert await store.count("active") == 1


async def test_a_delete_of_an_unknown_name_is_remembered_if_it_asks_for_it(
    store: Store, jetstream: JetStreamContext
) -> None:
    named = {"source": "mem0", "external_id": "m1"}
    for _ in range(2):
        await publish(store, jetstream, command("delete", {**named, "remember": True}))
    await eventually(lambda: drained(jetstream))
    report = await store.import_([{"id": "m1", "memory": "late"}], format="mem0")
    assert (report["imported"], report["skipped"]) == (0, 1)
    assert await letters(store) == []


async def test_many_commands_at_once_lose_none(store: Store, jetstream: JetStreamContext) -> None:
    sent = {f"fact {n}" for n in range(300)}
    await asyncio.gather(
        *(publish(store, jetstream, command("create", {"content": text})) for text in sent)
    )
    await eventually(lambda: drained(jetstream), timeout_s=30)
    rows = await store.sql.fetch("SELECT content FROM engram.memory WHERE state = 'active'")
    assert sorted(row["content"] for row in rows) == sorted(sent)
    assert isinstance(store.workspace, UUID)
