"""Dead letters: seen by their own workspace only, replayed once, and given up for good."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.js import JetStreamContext

from engram import events
from engram_cli.bench.fake_provider import FakeProvider
from engram_curator.reconcile import reconcile
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually

DIMENSIONS = 32
NOBODY = "0199a7c4-0000-7000-8000-000000000000"
SPACE = f"openai:local-model@{DIMENSIONS}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(DIMENSIONS, poison="poison") as server:
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
        commands=True,
        openai_base_url=fake.url,
        provider_timeout_s=2.5,
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


async def letters(store: Store, **params: Any) -> list[dict[str, Any]]:
    answer = await store.client.get("/v1/dead-letters", params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def act(store: Store, verb: str, **body: Any) -> dict[str, Any]:
    answer = await store.client.post(f"/v1/dead-letters/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def poisoned(store: Store, content: str = "a poison text") -> dict[str, Any]:
    """Store a text the provider refuses and return it once it is a dead letter."""
    made = await store.post(content)

    async def dead() -> list[dict[str, Any]]:
        return [one for one in await letters(store) if one["memory_id"] == made["id"]]

    await eventually(dead, 20)
    return made


async def vector_of(store: Store, memory_id: str) -> bool:
    return bool(
        await store.sql.fetchval(
            "SELECT count(*) FROM engram_vec.space_1 WHERE memory_id = $1", memory_id
        )
    )


async def everything(store: Store) -> list[list[tuple[Any, ...]]]:
    return [
        [tuple(row) for row in await store.sql.fetch(f"SELECT * FROM engram.{table} ORDER BY 1, 2")]
        for table in ("memory", "dead_letter", "audit")
    ]


async def test_a_list_tells_both_kinds_by_age_and_no_text(
    store: Store, jetstream: JetStreamContext
) -> None:
    made = await poisoned(store)
    await publish(store, jetstream, command("create", {"content": "a secret", "nonsense": 1}))
    embedding, ingest = await letters(store)
    assert (embedding["kind"], embedding["class"]) == ("embedding", "rejected")
    assert (embedding["memory_id"], embedding["space"]) == (made["id"], SPACE)
    assert (embedding["attempts"], embedding["subject"]) == (1, None)
    assert (ingest["kind"], ingest["class"]) == ("ingest", "invalid_memory")
    assert ingest["subject"] == events.ingest_subject(str(store.workspace))
    assert (ingest["memory_id"], ingest["space"], ingest["attempts"]) == (None, None, 1)
    for letter in (embedding, ingest):
        assert letter["error"]
        assert 0 <= letter["age_s"] < 60
        assert letter["first_at"] <= letter["last_at"]
    listed = json.dumps([embedding, ingest])
    assert "secret" not in listed
    assert "a poison text" not in listed


async def test_a_list_is_filtered_and_paged(store: Store, jetstream: JetStreamContext) -> None:
    await poisoned(store)
    await publish(store, jetstream, b"nonsense")
    await publish(store, jetstream, command("create", {"content": ""}))
    assert [one["kind"] for one in await letters(store, kind="embedding")] == ["embedding"]
    assert [one["class"] for one in await letters(store, kind="ingest")] == [
        "malformed_json",
        "invalid_memory",
    ]
    assert len(await letters(store, **{"class": "invalid_memory"})) == 1
    assert await letters(store, kind="embedding", **{"class": "invalid_memory"}) == []
    assert await letters(store, **{"class": "a\0b"}) == []
    whole = await letters(store)
    paged, cursor = [], None
    for _ in range(3):
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await store.client.get("/v1/dead-letters", params=params)).json()
        paged += page["items"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [one["id"] for one in paged] == [one["id"] for one in whole]
    refused = await store.client.get("/v1/dead-letters", params={"kind": "nonsense"})
    assert refused.status_code == 422


async def test_what_was_sent_is_shown_to_its_own_workspace(
    store: Store, jetstream: JetStreamContext
) -> None:
    await publish(store, jetstream, b"\xff\xfe")
    await publish(store, jetstream, command("create", {"content": "tea", "x": 1}))
    raw, item = [
        (await store.client.get(f"/v1/dead-letters/{one['id']}")).json()
        for one in await letters(store)
    ]
    sent = json.loads(item["payload"])
    assert (sent["type"], sent["data"]) == ("engram.memory.create.v1", {"content": "tea", "x": 1})
    assert (raw["payload"], raw["payload_encoding"]) == ("//4=", "base64")
    made = await poisoned(store)
    shown = await store.client.get(f"/v1/dead-letters/{made['id']}.1")
    assert shown.json()["memory_id"] == made["id"]
    assert "payload" not in shown.json()


async def test_another_workspace_sees_and_changes_nothing(
    store: Store, jetstream: JetStreamContext
) -> None:
    await poisoned(store)
    await publish(store, jetstream, command("create", {"content": "secret", "x": 1}))
    ids = [one["id"] for one in await letters(store)]
    _, key = await store.other_workspace()
    before = await everything(store)
    async with client_of(store.app, key) as client:
        assert (await client.get("/v1/dead-letters")).json()["items"] == []
        for verb in ("replay", "discard"):
            everything_there = await client.post(f"/v1/dead-letters/{verb}", json={"all": True})
            assert everything_there.json()["matched"] == 0
            named = (await client.post(f"/v1/dead-letters/{verb}", json={"ids": ids})).json()
            assert (named["matched"], named["failed"]) == (0, len(ids))
            assert {one["code"] for one in named["errors"]} == {"dead_letter_not_found"}
            for one in ids:
                answer = await client.post(f"/v1/dead-letters/{one}/{verb}")
                assert answer.status_code == 404
        for one in ids:
            assert (await client.get(f"/v1/dead-letters/{one}")).status_code == 404
    assert await everything(store) == before
    assert [one["id"] for one in await letters(store)] == ids


@pytest.mark.parametrize("path", ["", "/replay", "/discard"])
@pytest.mark.parametrize("letter_id", ["nonsense", "a%00b", f"{NOBODY}.9", f"{NOBODY}.1", NOBODY])
async def test_an_unknown_id_is_404(store: Store, path: str, letter_id: str) -> None:
    method = "POST" if path else "GET"
    answer = await store.client.request(method, f"/v1/dead-letters/{letter_id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "dead_letter_not_found")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"all": False},
        {"all": True, "ids": []},
        {"ids": ["a"], "kind": "ingest"},
        {"ids": "a"},
        {"ids": [7]},
        {"ids": ["a"] * 501},
        {"kind": "delivery"},
        {"class": 7},
        {"all": 1},
        {"all": True, "dry_run": "yes"},
        {"all": True, "nonsense": 1},
    ],
)
async def test_a_body_that_does_not_say_which_is_422(store: Store, body: Any) -> None:
    for verb in ("replay", "discard"):
        answer = await store.client.post(f"/v1/dead-letters/{verb}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_selection")
        assert answer.json()["errors"]


async def test_a_replayed_memory_is_embedded_once_the_provider_takes_it(
    store: Store, fake: FakeProvider
) -> None:
    made = await poisoned(store)
    fake.poison = None
    done = await act(store, "replay", **{"class": "rejected"})
    assert (done["matched"], done["replayed"], done["dropped"], done["failed"]) == (1, 1, 0, 0)
    await eventually(lambda: vector_of(store, made["id"]), 20)
    assert await letters(store) == []
    assert await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure") == 0


async def test_a_poison_text_is_dead_again_after_a_replay(store: Store, fake: FakeProvider) -> None:
    made = await poisoned(store)
    (before,) = await letters(store)
    answer = await store.client.post(f"/v1/dead-letters/{made['id']}.1/replay")
    assert answer.json()["replayed"] == 1

    async def dead_again() -> bool:
        found = await letters(store)
        return bool(found) and found[0]["last_at"] > before["last_at"]

    await eventually(dead_again, 20)
    (after,) = await letters(store)
    assert (after["id"], after["first_at"]) == (before["id"], before["first_at"])
    assert (after["class"], after["attempts"]) == ("rejected", 1)
    assert not await vector_of(store, made["id"])


async def test_a_failure_of_a_text_that_is_gone_is_dropped(store: Store) -> None:
    archived, changed = await poisoned(store, "poison one"), await poisoned(store, "poison two")
    await store.sql.execute(
        "UPDATE engram.memory SET state = 'archived' WHERE id = $1", archived["id"]
    )
    await store.sql.execute("UPDATE engram.memory SET version = 7 WHERE id = $1", changed["id"])
    rehearsed = await act(store, "replay", all=True, dry_run=True)
    assert (rehearsed["replayed"], rehearsed["dropped"]) == (0, 2)
    done = await act(store, "replay", all=True)
    assert (done["matched"], done["replayed"], done["dropped"]) == (2, 0, 2)
    assert await letters(store) == []


async def test_a_discarded_failure_is_not_revived_by_reconcile(
    store: Store, fake: FakeProvider
) -> None:
    made = await poisoned(store)
    other = await poisoned(store, "poison that nobody discarded, whose row was lost")
    discarded = await store.client.post(f"/v1/dead-letters/{made['id']}.1/discard")
    assert (discarded.json()["matched"], discarded.json()["discarded"]) == (1, 1)
    assert [one["memory_id"] for one in await letters(store)] == [other["id"]]
    # The control: without its row a memory is found and sent again.
    await store.sql.execute(
        "DELETE FROM engram.embedding_failure WHERE memory_id = $1", other["id"]
    )
    await store.sql.execute("UPDATE engram.memory SET versioned_at = now() - interval '1 hour'")
    fake.poison = None
    await reconcile(store.service)
    await eventually(lambda: vector_of(store, other["id"]), 20)
    assert not await vector_of(store, made["id"])
    (kept,) = await letters(store, discarded=True)
    assert (kept["memory_id"], kept["discarded_at"] is not None) == (made["id"], True)
    counts = (await store.client.get("/v1/workspace")).json()["vectors"][SPACE]
    assert counts == {"current": 1, "pending": 0, "dead": 1}


async def test_filters_leave_out_what_was_discarded_and_its_id_takes_it_back(
    store: Store, fake: FakeProvider
) -> None:
    made = await poisoned(store)
    await act(store, "discard", kind="embedding")
    fake.poison = None
    assert (await act(store, "replay", all=True))["matched"] == 0
    done = await act(store, "replay", ids=[f"{made['id']}.1"])
    assert (done["matched"], done["replayed"]) == (1, 1)
    await eventually(lambda: vector_of(store, made["id"]), 20)
    assert await letters(store, discarded=True) == []


async def test_a_changed_text_is_tried_although_the_old_one_was_discarded(store: Store) -> None:
    made = await poisoned(store)
    await act(store, "discard", all=True)
    await store.client.patch(f"/v1/memories/{made['id']}", json={"content": "a harmless text"})
    await eventually(lambda: vector_of(store, made["id"]), 20)
    assert await letters(store, discarded=True) == []


async def test_a_deleted_memory_leaves_no_letter(store: Store) -> None:
    made = await poisoned(store)
    await act(store, "discard", all=True)
    await store.client.delete(f"/v1/memories/{made['id']}")
    assert await letters(store) + await letters(store, discarded=True) == []


@pytest.mark.parametrize("verb", ["replay", "discard"])
async def test_a_dry_run_counts_and_changes_nothing(
    store: Store, jetstream: JetStreamContext, verb: str
) -> None:
    await poisoned(store)
    await store.post("first", external_id="1")
    await publish(
        store,
        jetstream,
        command("create", {"content": "second", "external_id": "1"}),
        command("create", {"content": ""}),
    )
    failures = "SELECT * FROM engram.embedding_failure"
    before = await everything(store), await store.sql.fetch(failures)
    done = await act(store, verb, all=True, dry_run=True)
    assert (done["dry_run"], done["matched"]) == (True, 3)
    if verb == "replay":
        assert (done["replayed"], done["failed"]) == (2, 1)
        assert done["errors"][0]["code"] == "invalid_memory"
    else:
        assert (done["discarded"], done["failed"]) == (3, 0)
    assert (await everything(store), await store.sql.fetch(failures)) == before


async def test_the_same_request_again_gets_the_same_answer(store: Store) -> None:
    await poisoned(store)
    headers, body = {"Idempotency-Key": "k"}, {"kind": "embedding"}
    send = store.client.post
    first = await send("/v1/dead-letters/discard", json=body, headers=headers)
    again = await send("/v1/dead-letters/discard", json=body, headers=headers)
    assert first.json()["discarded"] == 1
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    other = await send("/v1/dead-letters/discard", json={"all": True}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_more_than_one_request_may_do_goes_on_at_the_cursor(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram_ingest import dead_letters

    monkeypatch.setattr(dead_letters, "_MOST", 2)
    await asyncio.gather(*(poisoned(store, f"poison {n}") for n in range(5)))
    seen, cursor = 0, None
    for _ in range(3):
        done = await act(store, "discard", all=True, dry_run=True, cursor=cursor)
        seen, cursor = seen + done["matched"], done["next_cursor"]
    assert (seen, cursor) == (5, None)
