"""Replaying ingest commands: written once by the same path, or put aside with the new reason."""

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
from engram.errors import UnavailableError
from engram_ingest.committer import Committer
from tests.support.store import Store, open_store
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


def command(kind: str, data: Any) -> bytes:
    return events.encode_command(str(uuid4()), kind, data, datetime.now(UTC), "urn:test")


async def publish(store: Store, jetstream: JetStreamContext, *messages: bytes) -> None:
    for message in messages:
        await jetstream.publish(events.ingest_subject(str(store.workspace)), message)

    async def drained() -> bool:
        return bool((await jetstream.stream_info("ENGRAM_INGEST")).state.messages == 0)

    await eventually(drained)


async def letters(store: Store) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await store.client.get("/v1/dead-letters")).json()["items"]
    return items


async def replay(store: Store, **body: Any) -> dict[str, Any]:
    answer = await store.client.post("/v1/dead-letters/replay", json=body or {"all": True})
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def contents(store: Store) -> list[str]:
    rows = await store.sql.fetch("SELECT content FROM engram.memory WHERE state = 'active'")
    return sorted(row["content"] for row in rows)


async def free_name(store: Store, external_id: str) -> None:
    """Make an external id free again, as nothing but a person at the database can."""
    await store.sql.execute("DELETE FROM engram.memory_alias WHERE external_id = $1", external_id)


async def clash(store: Store, jetstream: JetStreamContext, **fields: Any) -> dict[str, Any]:
    """Leave one letter of a memory whose external id was taken and is free by now."""
    await store.post("in the way", external_id="1")
    await publish(
        store, jetstream, command("create", {"content": "wanted", "external_id": "1", **fields})
    )
    (letter,) = await letters(store)
    assert letter["class"] == "external_id_taken"
    await free_name(store, "1")
    return letter


async def test_a_command_that_can_be_done_by_now_is_stored_once_and_its_letter_goes(
    store: Store, jetstream: JetStreamContext
) -> None:
    fields = {
        "user_id": "alice",
        "metadata": {"a": [1, {"b": None}]},
        "categories": ["x"],
        "importance": 0.7,
        "pinned": True,
        "expires_at": "2999-01-01T00:00:00Z",
        "created_at": "2020-01-01T00:00:00Z",
        "source": "native",
    }
    await clash(store, jetstream, **fields)
    done = await replay(store)
    assert (done["matched"], done["replayed"], done["failed"]) == (1, 1, 0)
    assert await letters(store) == []
    listed = (await store.client.get("/v1/memories", params={"user_id": "alice"})).json()
    (record,) = listed["items"]
    assert {name: record[name] for name in fields} == fields
    assert (record["content"], record["external_id"]) == ("wanted", "1")
    assert (record["namespace"], record["version"]) == ("user:alice", 1)
    history = await store.client.get(f"/v1/memories/{record['id']}/history")
    assert history.json()["items"][0]["actor"] == "nats:urn:test"


async def test_what_fails_again_stays_with_the_new_reason_under_its_id(
    store: Store, jetstream: JetStreamContext
) -> None:
    letter = await clash(store, jetstream)
    again = await store.post("in the way again", external_id="1")
    for attempts in (2, 3):
        done = await replay(store)
        assert (done["replayed"], done["failed"]) == (0, 1)
        assert done["errors"][0]["id"] == letter["id"]
        (kept,) = await letters(store)
        assert (kept["id"], kept["attempts"]) == (letter["id"], attempts)
        assert kept["first_at"] == letter["first_at"]
        assert kept["last_at"] > letter["last_at"]
    await store.client.delete(f"/v1/memories/{again['id']}")
    done = await replay(store)
    assert done["errors"][0]["code"] == "external_id_deleted"
    shown = (await store.client.get(f"/v1/dead-letters/{letter['id']}")).json()
    assert "wanted" not in shown["payload"]
    # Only the name is left of it: nothing can be done about it any more.
    assert (await replay(store))["errors"][0]["code"] == "external_id_deleted"
    assert await contents(store) == ["in the way"]


async def test_a_letter_replayed_by_many_at_once_is_written_once(
    store: Store, jetstream: JetStreamContext
) -> None:
    letter = await clash(store, jetstream)
    await asyncio.gather(*(replay(store, ids=[letter["id"]]) for _ in range(8)))
    assert await contents(store) == ["in the way", "wanted"]
    assert await letters(store) == []
    rows = await store.sql.fetch("SELECT state FROM engram.memory WHERE content = 'wanted'")
    assert [row["state"] for row in rows] == ["active"]


async def test_a_replay_that_cannot_commit_leaves_the_letter_and_writes_nothing(
    store: Store, jetstream: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await clash(store, jetstream)

    async def lost(*_: object) -> None:
        raise UnavailableError("postgres_unavailable", "Gone.")

    with monkeypatch.context() as broken:
        broken.setattr(Committer, "submit", lost)
        answer = await store.client.post("/v1/dead-letters/replay", json={"all": True})
        assert answer.status_code == 503
    assert [one["id"] for one in await letters(store)] == [letter["id"]]
    assert await contents(store) == ["in the way"]
    assert (await replay(store))["replayed"] == 1
    assert await contents(store) == ["in the way", "wanted"]


async def test_nothing_is_written_when_the_letter_cannot_be_removed(
    store: Store, jetstream: JetStreamContext
) -> None:
    await clash(store, jetstream)
    await store.sql.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON engram.dead_letter "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(Exception, match="no"):
        await store.client.post("/v1/dead-letters/replay", json={"all": True})
    assert await contents(store) == ["in the way"]
    await store.sql.execute("DROP TRIGGER refuse ON engram.dead_letter")
    assert (await replay(store))["replayed"] == 1
    assert await contents(store) == ["in the way", "wanted"]


async def test_an_update_that_came_before_its_create_can_be_replayed(
    store: Store, jetstream: JetStreamContext
) -> None:
    late = command(
        "update", {"external_id": "1", "pinned": True, "valid_until": "2999-01-01T00:00Z"}
    )
    await publish(store, jetstream, late, command("delete", {"external_id": "2"}))
    made = await store.post("came late", external_id="1")
    gone = await store.post("came late too", external_id="2")
    done = await replay(store)
    assert (done["matched"], done["replayed"]) == (2, 2)
    shown = (await store.client.get(f"/v1/memories/{made['id']}")).json()
    assert (shown["pinned"], shown["valid_until"]) == (True, "2999-01-01T00:00:00Z")
    assert (await store.client.get(f"/v1/memories/{gone['id']}")).status_code == 404
    assert await letters(store) == []


async def test_of_a_change_to_a_deleted_memory_only_the_name_is_kept(
    store: Store, jetstream: JetStreamContext
) -> None:
    gone = await store.post("gone", external_id="1")
    await store.client.delete(f"/v1/memories/{gone['id']}")
    await publish(
        store,
        jetstream,
        command("update", {"id": gone["id"], "content": "a late secret"}),
        command("update", {"external_id": "1", "content": "a late secret"}),
    )
    assert [one["class"] for one in await letters(store)] == ["memory_not_found"] * 2
    rows = "SELECT * FROM engram.dead_letter ORDER BY id"
    payloads = await store.sql.fetch(rows)
    assert not any(b"secret" in row["payload"] for row in payloads)
    done = await replay(store)
    assert (done["replayed"], done["failed"]) == (0, 2)
    assert await store.sql.fetch(rows) == payloads


async def test_a_whole_message_is_replayed_without_its_bad_items(
    store: Store, jetstream: JetStreamContext
) -> None:
    message = command(
        "create", {"memories": [{"content": "good"}, {"content": ""}, {"x": 1}, {"content": "too"}]}
    )
    letter_id = uuid4()
    await store.sql.execute(
        "INSERT INTO engram.dead_letter (id, kind, workspace, subject, code, detail, payload) "
        "VALUES ($1, 'ingest', $2, $3, 'internal', 'x', $4)",
        *(letter_id, store.workspace, events.ingest_subject(str(store.workspace)), message),
    )
    done = await replay(store)
    assert (done["matched"], done["failed"]) == (1, 1)
    assert await contents(store) == ["good", "too"]
    found = await letters(store)
    assert [one["class"] for one in found] == ["invalid_memory"] * 2
    assert str(letter_id) in {one["id"] for one in found}
    sent = [
        json.loads((await store.client.get(f"/v1/dead-letters/{one['id']}")).json()["payload"])
        for one in found
    ]
    assert sorted(str(one["data"]) for one in sent) == ["{'content': ''}", "{'x': 1}"]
    assert (await replay(store))["failed"] == 2
    assert await contents(store) == ["good", "too"]


async def test_a_message_that_cannot_be_read_still_cannot(
    store: Store, jetstream: JetStreamContext
) -> None:
    await publish(store, jetstream, b"nonsense", b"\xff", b"{}")
    done = await replay(store)
    assert (done["matched"], done["replayed"], done["failed"]) == (3, 0, 3)
    assert [one["attempts"] for one in await letters(store)] == [2, 2, 2]


async def test_a_command_that_nests_too_deeply_is_kept_as_it_was(
    store: Store, jetstream: JetStreamContext
) -> None:
    for depth in (600, 1_010):
        deep = b"[" * depth + b"]" * depth
        message = command("create", {"memories": [{"content": "good"}, {"metadata": "DEEP"}]})
        await publish(store, jetstream, message.replace(b'"DEEP"', b'{"deep":' + deep + b"}"))
    found = await letters(store)
    assert [one["class"] for one in found] == ["invalid_memory"] * 2
    for one in found:
        shown = (await store.client.get(f"/v1/dead-letters/{one['id']}")).json()
        assert "[" * 600 in shown["payload"]
    assert (await replay(store))["failed"] == 2
    assert await contents(store) == ["good"]


async def test_a_discarded_command_is_gone(store: Store, jetstream: JetStreamContext) -> None:
    await publish(store, jetstream, b"nonsense", command("create", {"content": ""}))
    one, other = await letters(store)
    answer = await store.client.post(f"/v1/dead-letters/{one['id']}/discard")
    assert answer.json()["discarded"] == 1
    assert [letter["id"] for letter in await letters(store)] == [other["id"]]
    answer = await store.client.post("/v1/dead-letters/discard", json={"class": other["class"]})
    assert (answer.json()["matched"], answer.json()["discarded"]) == (1, 1)
    assert await store.sql.fetchval("SELECT count(*) FROM engram.dead_letter") == 0
    audited = await store.sql.fetchval(
        "SELECT count(*) FROM engram.audit WHERE action = 'dead_letters.discarded'"
    )
    assert audited == 2


async def test_a_subject_of_no_workspace_is_a_letter_of_nobody(
    store: Store, jetstream: JetStreamContext
) -> None:
    await jetstream.publish(events.ingest_subject(str(uuid4())), b"nonsense")
    await publish(store, jetstream)
    assert await letters(store) == []
    owner: UUID | None = await store.sql.fetchval("SELECT workspace FROM engram.dead_letter")
    assert owner is None
