"""Keys and workspaces: who is refused, how soon, and that nobody sees another workspace."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from engram.domain.keys import make_key
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually

# Every route with a body that it would accept.
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/memories", {"content": "x"}),
    ("GET", "/v1/memories", None),
    ("GET", "/v1/memories/{id}", None),
    ("PATCH", "/v1/memories/{id}", {"content": "stolen"}),
    ("GET", "/v1/memories/{id}/history", None),
    ("DELETE", "/v1/memories/{id}", None),
    ("POST", "/v1/memories/search", {"query": "tea"}),
    ("POST", "/v1/memories/context", {"query": "tea"}),
    ("POST", "/v1/memories/import", [{"content": "x"}]),
    ("GET", "/v1/export", None),
    ("GET", "/v1/audit", None),
    ("GET", "/v1/workspace", None),
    ("POST", "/v1/keys", {"name": "k"}),
    ("GET", "/v1/keys", None),
    ("DELETE", "/v1/keys/{key_id}", None),
    ("GET", "/v1/dead-letters", None),
    ("GET", "/v1/dead-letters/{letter_id}", None),
    ("POST", "/v1/dead-letters/replay", {"all": True}),
    ("POST", "/v1/dead-letters/discard", {"all": True}),
    ("POST", "/v1/dead-letters/{letter_id}/replay", None),
    ("POST", "/v1/dead-letters/{letter_id}/discard", None),
    ("POST", "/v1/memories/{id}/restore", None),
    ("GET", "/v1/decay", None),
    ("PATCH", "/v1/decay", {"floor": 0.1}),
    ("GET", "/v1/decay/namespaces", None),
    ("GET", "/v1/decay/preview", None),
    ("POST", "/v1/decay/runs", {}),
    ("GET", "/v1/decay/runs", None),
    ("GET", "/v1/decay/runs/{run_id}", None),
    ("GET", "/v1/decay/runs/{run_id}/memories", None),
    ("POST", "/v1/decay/runs/{run_id}/restore", None),
    ("GET", "/v1/schedules", None),
    ("GET", "/v1/schedules/{name}", None),
    ("PATCH", "/v1/schedules/{name}", {"enabled": True}),
    ("POST", "/v1/schedules/{name}/run", None),
    ("GET", "/v1/imports", None),
    ("GET", "/v1/imports/{import_id}", None),
    ("GET", "/v1/imports/{import_id}/errors", None),
    ("POST", "/v1/imports/{import_id}/cancel", None),
    ("POST", "/v1/imports/{import_id}/restore", None),
    ("GET", "/v1/merges", None),
    ("GET", "/v1/merges/{merge_id}", None),
    ("POST", "/v1/merges/{merge_id}/undo", None),
    ("POST", "/v1/merges/{merge_id}/members/{id}/undo", None),
    ("POST", "/v1/dedup/runs", {"dry_run": True}),
    ("GET", "/v1/dedup/runs", None),
    ("GET", "/v1/dedup/runs/{run_id}", None),
    ("GET", "/v1/dedup/runs/{run_id}/preview", None),
    ("POST", "/v1/dedup/runs/{run_id}/cancel", None),
    ("POST", "/v1/dedup/runs/{run_id}/undo", None),
    ("GET", "/v1/dedup/proposals", None),
    ("GET", "/v1/dedup/proposals/{proposal_id}", None),
    ("POST", "/v1/dedup/proposals/{proposal_id}/accept", {}),
    ("POST", "/v1/dedup/proposals/{proposal_id}/reject", None),
    ("GET", "/v1/dedup/conflicts", None),
    ("GET", "/v1/dedup/conflicts/{conflict_id}", None),
    ("POST", "/v1/dedup/conflicts/{conflict_id}/resolve", {"keep": "both"}),
    ("POST", "/v1/dedup/conflicts/{conflict_id}/undo", None),
    ("GET", "/v1/spaces/{space}/models", None),
    ("PATCH", "/v1/spaces/{space}", {"embeds_with": "voyage-4-lite"}),
    ("GET", "/v1/spaces", None),
    ("POST", "/v1/migrations", {"to": "hashing@64"}),
    ("GET", "/v1/migrations", None),
    ("GET", "/v1/migrations/{migration_id}", None),
    ("PATCH", "/v1/migrations/{migration_id}", {"share": 0.5}),
    ("GET", "/v1/migrations/{migration_id}/namespaces", None),
    ("GET", "/v1/migrations/{migration_id}/mismatches", None),
    ("POST", "/v1/migrations/{migration_id}/{verb}", None),
]
OPERATOR = {
    *(("POST", "/v1/keys"), ("GET", "/v1/keys"), ("DELETE", "/v1/keys/{key_id}")),
    ("GET", "/v1/audit"),
    *(("GET", "/v1/schedules"), ("GET", "/v1/schedules/{name}")),
    *(("PATCH", "/v1/schedules/{name}"), ("POST", "/v1/schedules/{name}/run")),
    *(("GET", "/v1/spaces/{space}/models"), ("PATCH", "/v1/spaces/{space}")),
    ("GET", "/v1/spaces"),
    *((method, "/v1/migrations") for method in ("GET", "POST")),
    *((method, "/v1/migrations/{migration_id}") for method in ("GET", "PATCH")),
    ("GET", "/v1/migrations/{migration_id}/namespaces"),
    ("GET", "/v1/migrations/{migration_id}/mismatches"),
    ("POST", "/v1/migrations/{migration_id}/{verb}"),
}

_IDS = (
    *("letter_id", "run_id", "import_id", "merge_id", "proposal_id", "conflict_id"),
    "migration_id",
)


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def call(
    client: httpx.AsyncClient, route: tuple[str, str, Any], ids: dict[str, str], **headers: str
) -> httpx.Response:
    method, path, body = route
    sent = {"json": body} if body is not None else {}
    # Ids of every kind look alike: a memory's stands for that of whatever the route is about.
    known = dict.fromkeys(_IDS, ids["id"]) | {"name": "decay", "space": "8", "verb": "pause"} | ids
    return await client.request(method, path.format(**known), headers=headers, **sent)


def test_every_route_of_the_application_is_in_the_table() -> None:
    from engram_ingest.app import build_app

    described = build_app().openapi()["paths"]
    served = {(m.upper(), path) for path, methods in described.items() for m in methods}
    tabled = {(m, path.replace("{id}", "{memory_id}")) for m, path, _ in ROUTES}
    assert served == tabled


async def test_without_a_good_key_every_route_is_401(store: Store) -> None:
    mistyped = store.key[:-1] + ("a" if store.key[-1] != "a" else "b")
    made = await store.post("tea")
    ids = {"id": made["id"], "key_id": "abc"}
    unknown = make_key(bytes(40)).text
    refused = (
        *("", "Bearer", f"Basic {store.key}", f"Bearer {mistyped}", f"Bearer {store.key[:30]}"),
        *(f"Bearer {unknown}", store.key, "Bearer é", "Token \xff"),
    )
    for route in ROUTES:
        for value in refused if route[0] == "GET" else refused[3:4]:
            answer = await call(store.client, route, ids, Authorization=value.encode("latin-1"))
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), value
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
            assert store.key not in answer.text
    assert await store.count() == 1


async def test_a_right_id_with_a_wrong_secret_is_401(store: Store) -> None:
    other = make_key(bytes(range(40)))
    forged = type(other)(store.key.split("_")[2], other.secret)
    answer = await store.client.get(
        "/v1/workspace", headers={"Authorization": f"Bearer {forged.text}"}
    )
    assert answer.status_code == 401


async def test_a_revoked_key_stops_working_within_five_seconds(store: Store) -> None:
    made = await store.client.post("/v1/keys", json={"name": "short-lived"})
    assert made.status_code == 201
    async with client_of(store.app, made.json()["key"]) as client:
        assert (await client.get("/v1/workspace")).status_code == 200
        revoked = await store.client.delete(f"/v1/keys/{made.json()['id']}")
        assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)

        async def refused() -> bool:
            return (await client.get("/v1/workspace")).status_code == 401

        await eventually(refused, timeout_s=5)


async def test_an_expired_key_is_401(store: Store) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    key = await store.key_of(store.workspace, expires_at=past)
    async with client_of(store.app, key) as client:
        assert (await client.get("/v1/workspace")).status_code == 401


async def test_a_key_expires_within_five_seconds_of_its_time(store: Store) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    key = await store.key_of(store.workspace, expires_at=soon)
    async with client_of(store.app, key) as client:
        assert (await client.get("/v1/workspace")).status_code == 200

        async def refused() -> bool:
            return (await client.get("/v1/workspace")).status_code == 401

        await eventually(refused, timeout_s=7)


@pytest.mark.parametrize("scope", ["memories", "operator"])
async def test_a_key_without_the_scope_of_a_route_is_403(store: Store, scope: str) -> None:
    key = await store.key_of(store.workspace, [scope])
    made = await store.post("tea")
    async with client_of(store.app, key) as client:
        for route in ROUTES:
            if route[1] == "/v1/workspace":
                continue
            wanted = "operator" if route[:2] in OPERATOR else "memories"
            answer = await call(client, route, {"id": made["id"], "key_id": "abc"})
            if wanted == scope:
                assert answer.status_code not in (401, 403), route
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), route


async def test_another_workspace_reads_and_changes_nothing_on_any_route(store: Store) -> None:
    secret = "the sapphire heron"
    made = await store.post(secret, user_id="alice", external_id="1")
    before = (await store.client.get(f"/v1/memories/{made['id']}")).json()
    _, key = await store.other_workspace()
    own_key_id = store.key.split("_")[2]
    async with client_of(store.app, key) as client:
        questions = [("POST", f"/v1/memories/{what}", {"query": secret})
                     for what in ("search", "context")]  # fmt: skip
        for route in [*ROUTES, *questions]:
            answer = await call(client, route, {"id": made["id"], "key_id": own_key_id})
            assert secret not in answer.text, route
            assert made["id"] not in answer.text, route
            assert own_key_id not in answer.text, route
            if "{" in route[1]:
                assert answer.status_code == 404, route
        listed = await client.get("/v1/memories", params={"user_id": "alice"})
        assert listed.json()["items"] == []
        mine = await client.post(
            "/v1/memories", json={"content": secret, "user_id": "alice", "external_id": "1"}
        )
        assert (mine.status_code, mine.json()["id"] != made["id"]) == (201, True)
    after = (await store.client.get(f"/v1/memories/{made['id']}")).json()
    assert after == before
    assert (await store.client.get("/v1/keys")).json()["items"][0]["revoked_at"] is None


async def test_the_same_idempotency_key_means_another_request_in_another_workspace(
    store: Store,
) -> None:
    _, key = await store.other_workspace()
    headers = {"Idempotency-Key": "shared"}
    first = await store.client.post("/v1/memories", json={"content": "a"}, headers=headers)
    async with client_of(store.app, key) as client:
        second = await client.post("/v1/memories", json={"content": "b"}, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json()["content"] == "b"


async def test_the_workspace_route_counts_what_is_there(store: Store) -> None:
    for n in range(3):
        await store.post(f"fact {n}")
    gone = await store.post("gone")
    await store.client.delete(f"/v1/memories/{gone['id']}")
    answer = await store.client.get("/v1/workspace")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": str(store.workspace),
        "name": "default",
        "memory_count": 3,
        "by_state": {"active": 3, "deleted": 1},
        "vectors": {"hashing:ngram-1@256": {"current": 0, "pending": 3, "dead": 0}},
        "usage": {},
    }


async def test_a_new_key_is_shown_once_and_listed_without_its_text(store: Store) -> None:
    answer = await store.client.post(
        "/v1/keys",
        json={"name": "ci", "scopes": ["memories"], "expires_at": "2999-01-01T00:00:00Z"},
    )
    made = answer.json()
    assert answer.status_code == 201
    names = ["id", "name", "scopes", "created_at", "expires_at", "revoked_at"]
    assert list(made) == [*names, "key"]
    assert made["key"].startswith(f"engram_live_{made['id']}_")
    listed = await store.client.get("/v1/keys")
    assert list(listed.json()) == ["items", "next_cursor"]
    assert all(list(item) == names for item in listed.json()["items"])
    assert made["key"].split("_")[3] not in listed.text
    pages = [await store.client.get("/v1/keys", params={"limit": 1})]
    pages.append(
        await store.client.get(
            "/v1/keys", params={"limit": 1, "cursor": pages[0].json()["next_cursor"]}
        )
    )
    assert [p.json()["items"][0]["id"] for p in pages] == [i["id"] for i in listed.json()["items"]]
    assert pages[1].json()["next_cursor"] is None


async def test_a_key_body_that_cannot_be_is_422_with_pointers(store: Store) -> None:
    for body, pointers in (
        ({}, ["/name"]),
        ({"name": 3}, ["/name"]),
        ({"name": "k", "scopes": ["root"]}, ["/scopes"]),
        ({"name": "k", "scopes": []}, ["/scopes"]),
        ({"name": "k", "scopes": [{}]}, ["/scopes"]),
        ({"name": "k", "expires_at": "soon", "x": 1}, ["/x", "/expires_at"]),
        ([], [""]),
    ):
        answer = await store.client.post("/v1/keys", json=body)
        assert answer.status_code == 422, body
        assert [fault["pointer"] for fault in answer.json()["errors"]] == pointers


async def test_a_key_is_made_once_for_an_idempotency_key(store: Store) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await store.client.post("/v1/keys", json={"name": "a"}, headers=headers)
    again = await store.client.post("/v1/keys", json={"name": "a"}, headers=headers)
    other = await store.client.post("/v1/keys", json={"name": "b"}, headers=headers)
    assert [r.status_code for r in (first, again, other)] == [201, 409, 422]
    assert await store.sql.fetchval("SELECT count(*) FROM engram.api_key") == 2


async def test_an_unknown_key_id_is_404(store: Store) -> None:
    for key_id in ("nothere", "%00", "é", "x" * 5000):
        assert (await store.client.delete(f"/v1/keys/{key_id}")).status_code == 404
