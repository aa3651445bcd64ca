"""The audit trail over HTTP: what was done, by whom, newest first, never with content."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engram import events
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually

ENTRY = {"id", "actor", "action", "subject", "counts", "format", "version", "duration_s", "at"}


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def trail(store: Store, **params: str) -> list[dict[str, Any]]:
    answer = await store.client.get("/v1/audit", params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_deletions_and_changes_of_keys_are_told_with_who_and_what(store: Store) -> None:
    memory = await store.post("the secret text", external_id="x")
    await store.client.delete(f"/v1/memories/{memory['id']}")
    made = (await store.client.post("/v1/keys", json={"name": "k"})).json()
    await store.client.delete(f"/v1/keys/{made['id']}")
    revoked, created, deleted, first = await trail(store)
    assert set(deleted) == ENTRY
    assert (deleted["action"], deleted["subject"]) == ("memory.deleted", memory["id"])
    assert deleted["counts"] == {"memories": 1}
    assert deleted["actor"] in store.key
    assert (created["action"], created["subject"]) == ("key.created", made["id"])
    assert (revoked["action"], revoked["subject"]) == ("key.revoked", made["id"])
    assert (first["action"], first["actor"]) == ("key.created", "test")
    assert first["version"]
    assert "secret" not in (await store.client.get("/v1/audit")).text


async def test_a_deletion_by_a_command_is_told_with_its_publisher(store: Store) -> None:
    await store.post("gone soon", external_id="x")
    now = datetime.now(UTC)
    message = events.encode_command("c1", "delete", {"external_id": "x"}, now, "urn:app:crm")
    await store.lane.write(events.ingest_subject(str(store.workspace)), message)
    [entry] = await eventually(lambda: trail(store, kind="memory"))
    assert (entry["actor"], entry["counts"]) == ("nats:urn:app:crm", {"memories": 1})


async def test_the_trail_is_paged_newest_first_and_filtered(store: Store) -> None:
    for n in range(5):
        await store.client.post("/v1/keys", json={"name": f"k{n}"})
    every = await trail(store)
    assert [entry["id"] for entry in every] == sorted((e["id"] for e in every), reverse=True)
    seen, cursor = [], None
    while True:
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await store.client.get("/v1/audit", params=params)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == every
    assert await trail(store, kind="import") == []
    assert await trail(store, kind="key", since=every[2]["at"]) == every[:3]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await trail(store, since=later.isoformat()) == []


@pytest.mark.parametrize(
    "params", [{"kind": "Key!"}, {"since": "yesterday"}, {"cursor": "!"}, {"limit": "0"}]
)
async def test_a_wrong_question_is_refused(store: Store, params: dict[str, str]) -> None:
    assert (await store.client.get("/v1/audit", params=params)).status_code in (400, 422)


async def test_only_an_operator_of_the_workspace_reads_its_trail(store: Store) -> None:
    reader = await store.key_of(store.workspace, ["memories"])
    async with client_of(store.app, reader) as client:
        assert (await client.get("/v1/audit")).status_code == 403
    _, key = await store.other_workspace()
    async with client_of(store.app, key) as other:
        [own] = (await other.get("/v1/audit")).json()["items"]
    assert own["id"] not in {entry["id"] for entry in await trail(store)}


async def test_nobody_can_change_or_remove_an_entry_through_the_api_role(store: Store) -> None:
    allowed = await store.sql.fetch(
        "SELECT privilege_type FROM information_schema.role_table_grants "
        "WHERE table_schema = 'engram' AND table_name = 'audit' AND grantee = 'engram_api'"
    )
    assert {row["privilege_type"] for row in allowed} == {"SELECT", "INSERT"}
