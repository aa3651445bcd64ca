"""Routes over single memories and lists, to the letter of the public contract."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.store import Store, open_store
from tests.support.wait import eventually

RECORD = [
    "id", "namespace", "content", "version", "state", "user_id", "agent_id", "session_id",
    "app_id", "metadata", "categories", "importance", "pinned", "source", "external_id",
    "merged_into", "created_at", "updated_at", "expires_at", "valid_until", "last_accessed_at",
    "access_count", "embedded",
]  # fmt: skip
PROBLEM = {"type", "title", "status", "detail", "code", "cure", "errors"}


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == PROBLEM
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == f"urn:engram:error:{code}"
    assert body["title"]
    assert body["detail"]
    return body


async def test_a_created_memory_answers_201_with_the_whole_record(store: Store) -> None:
    answer = await store.client.post(
        "/v1/memories",
        json={
            "content": "Prefers email",
            "user_id": "alice",
            "agent_id": "bot",
            "metadata": {"source": "crm", "n": 1.5},
            "categories": ["a", 'b"c\\d', "NULL", "{}"],
            "importance": 1,
            "pinned": True,
            "expires_at": "2999-01-31T09:00:00+01:00",
        },
    )
    record = answer.json()
    assert answer.status_code == 201
    assert list(record) == RECORD
    assert UUID(record["id"]).version == 7
    assert {name: record[name] for name in RECORD[1:16]} == {
        "namespace": "user:alice",
        "content": "Prefers email",
        "version": 1,
        "state": "active",
        "user_id": "alice",
        "agent_id": "bot",
        "session_id": None,
        "app_id": None,
        "metadata": {"source": "crm", "n": 1.5},
        "categories": ["a", 'b"c\\d', "NULL", "{}"],
        "importance": 1.0,
        "pinned": True,
        "source": "native",
        "external_id": None,
        "merged_into": None,
    }
    assert record["expires_at"] == "2999-01-31T08:00:00Z"
    assert record["created_at"] == record["updated_at"]
    assert record["created_at"].endswith("Z")
    assert (record["access_count"], record["embedded"]) == (0, False)


async def test_a_shown_memory_is_the_record_that_was_created(store: Store) -> None:
    created = await store.post("tea", metadata={"deep": [{"x": None}]}, categories=["x"])
    shown = await store.client.get(f"/v1/memories/{created['id']}")
    assert shown.status_code == 200
    assert shown.json() == created
    assert shown.headers["etag"] == '"1"'


@pytest.mark.parametrize(
    ("owners", "namespace"),
    [
        ({"user_id": "u", "agent_id": "a"}, "user:u"),
        ({"agent_id": "a", "session_id": "s"}, "agent:a"),
        ({"session_id": "s", "app_id": "p"}, "session:s"),
        ({"app_id": "p"}, "app:p"),
        ({}, "global"),
        ({"user_id": "u", "namespace": "own"}, "own"),
    ],
)
async def test_the_namespace_follows_from_the_owners_unless_it_is_named(
    store: Store, owners: dict[str, str], namespace: str
) -> None:
    assert (await store.post("tea", **owners))["namespace"] == namespace


async def test_a_key_is_taken_as_bearer_and_as_token(store: Store) -> None:
    for scheme in ("Bearer", "Token", "bearer", "TOKEN"):
        headers = {"Authorization": f"{scheme} {store.key}"}
        assert (await store.client.get("/v1/workspace", headers=headers)).status_code == 200


async def test_a_repeat_answers_200_with_the_memory_it_repeats(store: Store) -> None:
    first = await store.post("Prefers  email\n", user_id="a")
    answer = await store.client.post(
        "/v1/memories", json={"content": " Prefers email", "user_id": "a"}
    )
    assert answer.status_code == 200
    assert answer.json() == {**first, "folded": True}
    assert await store.count() == 1


async def test_case_owners_and_namespaces_tell_memories_apart(store: Store) -> None:
    for fields in (
        {"content": "10 Mb/s", "user_id": "a"},
        {"content": "10 MB/s", "user_id": "a"},
        {"content": "10 Mb/s", "user_id": "b"},
        {"content": "10 Mb/s", "user_id": "a", "agent_id": "x"},
        {"content": "10 Mb/s", "user_id": "a", "namespace": "n"},
    ):
        assert "folded" not in await store.post(**fields)
    assert await store.count("active") == 5


async def test_a_known_external_id_with_the_same_text_answers_with_its_memory(
    store: Store,
) -> None:
    first = await store.post("tea", source="crm", external_id="7")
    again = await store.client.post(
        "/v1/memories", json={"content": "tea", "source": "crm", "external_id": "7"}
    )
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert again.json()["folded"] is True
    assert await store.count() == 1


async def test_a_known_external_id_with_another_text_is_a_conflict(store: Store) -> None:
    await store.post("tea", external_id="7")
    answer = await store.client.post("/v1/memories", json={"content": "ale", "external_id": "7"})
    problem(answer, 409, "external_id_taken")
    assert await store.count() == 1
    assert "folded" not in await store.post("ale", external_id="7", source="other")


async def test_the_external_id_of_a_deleted_memory_stays_taken(store: Store) -> None:
    first = await store.post("tea", external_id="7")
    await store.client.delete(f"/v1/memories/{first['id']}")
    answer = await store.client.post("/v1/memories", json={"content": "tea", "external_id": "7"})
    problem(answer, 409, "external_id_deleted")
    assert await store.count("active") == 0


async def test_a_repeat_with_its_own_external_id_is_born_merged_and_in_the_ledger(
    store: Store,
) -> None:
    survivor = await store.post("tea", user_id="a", external_id="1")
    repeat = await store.client.post(
        "/v1/memories", json={"content": "tea", "user_id": "a", "external_id": "2"}
    )
    record = repeat.json()
    assert (repeat.status_code, record["folded"], record["state"]) == (200, True, "merged")
    assert record["merged_into"] == survivor["id"]
    ledger = await store.sql.fetch(
        "SELECT g.kind, g.survivor, b.memory_id FROM engram.merge g "
        "JOIN engram.merge_member b ON b.merge_id = g.id"
    )
    assert [tuple(row) for row in ledger] == [("repeat", UUID(survivor["id"]), UUID(record["id"]))]
    shown = await store.client.get(f"/v1/memories/{record['id']}")
    assert (shown.status_code, shown.json()["external_id"]) == (200, "2")
    listed = await store.client.get("/v1/memories")
    assert [item["id"] for item in listed.json()["items"]] == [survivor["id"]]


@pytest.mark.parametrize("named", [{}, {"external_id": "1"}, {"external_id": "2"}])
async def test_a_repeat_of_an_archived_memory_restores_it(
    store: Store, named: dict[str, str]
) -> None:
    first = await store.post("tea", external_id="1")
    await store.sql.execute("UPDATE engram.memory SET state = 'archived'")
    await store.post("tea", **named)
    shown = (await store.client.get(f"/v1/memories/{first['id']}")).json()
    assert shown["state"] == "active"


async def test_a_patch_keeps_the_old_text_and_counts_versions(store: Store) -> None:
    made = await store.post("Thursdays")
    path = f"/v1/memories/{made['id']}"
    changed = await store.client.patch(path, json={"content": "Fridays"})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    record = changed.json()
    assert list(record) == RECORD
    assert (record["version"], record["content"]) == (2, "Fridays")
    assert record["created_at"] == made["created_at"] < record["updated_at"]
    await store.client.patch(path, json={"content": "Mondays"})
    history = (await store.client.get(f"{path}/history")).json()
    assert history["next_cursor"] is None
    assert [(r["version"], r["content"], r["event"]) for r in history["items"]] == [
        (1, "Thursdays", "created"),
        (2, "Fridays", "updated"),
        (3, "Mondays", "updated"),
    ]
    names = ["version", "content", "event", "at", "actor"]
    assert [list(r) for r in history["items"]] == [names] * 3
    assert {r["actor"] for r in history["items"]} == {store.key.split("_")[2]}


async def test_a_patch_without_a_new_text_keeps_the_version(store: Store) -> None:
    made = await store.post("tea", metadata={"a": 1}, expires_at="2999-01-01T00:00:00Z")
    patch = {
        "content": "tea",
        "importance": 0.9,
        "pinned": True,
        "metadata": {"b": [2]},
        "categories": ["x"],
        "expires_at": None,
        "valid_until": "2030-01-01T00:00:00Z",
    }
    changed = await store.client.patch(f"/v1/memories/{made['id']}", json=patch)
    assert changed.json() == {**made, **patch, "updated_at": changed.json()["updated_at"]}
    assert changed.headers["etag"] == '"1"'


async def test_what_a_memory_is_named_by_never_changes(store: Store) -> None:
    made = await store.post("tea")
    for name in ("namespace", "user_id", "agent_id", "id", "version", "state"):
        answer = await store.client.patch(f"/v1/memories/{made['id']}", json={name: "x"})
        body = problem(answer, 422, "invalid_memory")
        assert body["errors"][0]["pointer"] == f"/{name}"


async def test_an_empty_patch_is_refused(store: Store) -> None:
    made = await store.post("tea")
    answer = await store.client.patch(f"/v1/memories/{made['id']}", json={})
    problem(answer, 422, "invalid_memory")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_if_match_lets_a_change_through_only_on_its_version(
    store: Store, method: str
) -> None:
    made = await store.post("tea")
    path = f"/v1/memories/{made['id']}"
    body = {"json": {"content": "ale"}} if method == "PATCH" else {}
    for header in ('"2"', "2", '"999999999"'):
        wrong = await store.client.request(method, path, headers={"If-Match": header}, **body)
        problem(wrong, 412, "version_mismatch")
    for header in ("banana", '"-1"', 'W/"1"', '"1","2"', "\xb2", "", '"1234567890"'):
        odd = await store.client.request(
            method, path, headers={"If-Match": header.encode("latin-1")}, **body
        )
        problem(odd, 400, "bad_if_match")
    right = await store.client.request(method, path, headers={"If-Match": '"1"'}, **body)
    assert right.status_code == (200 if method == "PATCH" else 204)


@pytest.mark.parametrize("header", ["*", '"1"', None])
async def test_if_match_star_and_the_right_version_delete(store: Store, header: str | None) -> None:
    made = await store.post("tea")
    headers = {"If-Match": header} if header else {}
    answer = await store.client.delete(f"/v1/memories/{made['id']}", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_deleted_memory_is_unknown_on_every_route(store: Store) -> None:
    made = await store.post("tea")
    path = f"/v1/memories/{made['id']}"
    await store.client.delete(path)
    for method, route in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/history")):
        body = {"json": {"pinned": True}} if method == "PATCH" else {}
        answer = await store.client.request(method, path + route, **body)
        problem(answer, 404, "memory_not_found")


async def test_an_unknown_id_is_404(store: Store) -> None:
    unknown = "0199aaaa-0000-7000-8000-000000000000"
    for memory_id in (unknown, "nonsense", "%00", "%F0%9F", "import"):
        for method, route in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/history")):
            body = {"json": {"pinned": True}} if method == "PATCH" else {}
            answer = await store.client.request(method, f"/v1/memories/{memory_id}{route}", **body)
            problem(answer, 404, "memory_not_found")


async def test_pages_visit_every_memory_once_in_order(store: Store) -> None:
    made = [(await store.post(f"fact {n}", user_id="a"))["id"] for n in range(5)]
    await store.post("elsewhere", user_id="b")
    found: list[str] = []
    cursor: dict[str, str] = {}
    sizes = []
    while True:
        answer = await store.client.get(
            "/v1/memories", params={"user_id": "a", "limit": 2, **cursor}
        )
        page = answer.json()
        assert list(page) == ["items", "next_cursor"]
        assert all(list(item) == RECORD for item in page["items"])
        sizes.append(len(page["items"]))
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == made
    assert sizes == [2, 2, 1]


async def test_a_page_holds_50_unless_asked_and_never_more_than_500(store: Store) -> None:
    await store.import_([{"content": f"fact {n}"} for n in range(60)])
    assert len((await store.client.get("/v1/memories")).json()["items"]) == 50
    full = await store.client.get("/v1/memories", params={"limit": 500})
    assert (len(full.json()["items"]), full.json()["next_cursor"]) == (60, None)
    exact = await store.client.get("/v1/memories", params={"limit": 60})
    assert exact.json()["next_cursor"] is None


async def test_a_limit_outside_1_to_500_is_a_problem(store: Store) -> None:
    for limit in ("0", "501", "-1", "ten", "", "1e2", "9" * 400):
        for route in ("/v1/memories", "/v1/keys"):
            answer = await store.client.get(route, params={"limit": limit})
            body = problem(answer, 422, "invalid_parameter")
            assert body["errors"][0]["pointer"] == "/limit"


async def test_a_cursor_that_is_not_ours_is_a_problem(store: Store) -> None:
    for cursor in ("", "x", "AAAA", "AA==", "%00", "é", "zz zz", "9" * 300):
        answer = await store.client.get("/v1/memories", params={"cursor": cursor})
        problem(answer, 400, "bad_cursor")
        keys = await store.client.get("/v1/keys", params={"cursor": cursor})
        assert keys.status_code in (200, 400), cursor


async def test_lists_filter_by_namespace_owner_state_and_time(store: Store) -> None:
    await store.post("one", user_id="u", agent_id="a")
    await store.post("two", session_id="s", app_id="p")
    old = await store.post("three", namespace="own")
    await store.sql.execute(
        "UPDATE engram.memory SET state = 'archived', updated_at = '2020-01-01Z' WHERE id = $1",
        UUID(old["id"]),
    )

    async def texts(**params: str) -> list[str]:
        answer = await store.client.get("/v1/memories", params=params)
        assert answer.status_code == 200, answer.text
        return [item["content"] for item in answer.json()["items"]]

    assert await texts() == ["one", "two"]
    assert await texts(namespace="user:u") == ["one"]
    assert await texts(agent_id="a") == ["one"]
    assert await texts(session_id="s") == ["two"]
    assert await texts(app_id="p") == ["two"]
    assert await texts(app_id="p", user_id="u") == []
    assert await texts(state="archived") == ["three"]
    assert await texts(state="archived", updated_since="2020-01-01T00:00:01Z") == []
    assert await texts(state="archived", updated_since="2019-12-31T23:59:59Z") == ["three"]


async def test_a_list_filter_that_cannot_be_is_422(store: Store) -> None:
    for name, value in (
        ("state", "deleted"),
        ("state", "staged"),
        ("state", "x"),
        ("updated_since", "yesterday"),
        ("updated_since", "2020-01-01T00:00:00"),
        ("user_id", ""),
        ("user_id", "a\0b"),
        ("namespace", "x" * 600),
        ("namespace", "a\0b"),
    ):
        answer = await store.client.get("/v1/memories", params={name: value})
        body = problem(answer, 422, "invalid_memory")
        assert body["errors"][0]["pointer"] == f"/{name}"


async def test_an_expired_memory_is_gone_from_lists_at_once(store: Store) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    await store.post("brief", expires_at=soon)
    await store.post("lasting")

    async def listed() -> list[str]:
        items = (await store.client.get("/v1/memories")).json()["items"]
        return [item["content"] for item in items]

    await eventually(lambda: _is(listed(), ["lasting"]))
    fresh = await store.client.post("/v1/memories", json={"content": "brief"})
    assert fresh.status_code == 201
    assert await listed() == ["lasting", "brief"]


async def _is(found: Any, wanted: object) -> bool:
    return bool(await found == wanted)


async def test_every_fault_of_a_body_is_named_by_its_pointer(store: Store) -> None:
    answer = await store.client.post(
        "/v1/memories",
        json={
            "content": " ",
            "foo/b~r": 1,
            "importance": 0,
            "categories": ["ok", 3],
            "metadata": [],
            "user_id": 5,
            "pinned": "yes",
            "expires_at": "soon",
        },
    )
    found = {fault["pointer"]: fault["code"] for fault in
             problem(answer, 422, "invalid_memory")["errors"]}  # fmt: skip
    assert found == {
        "/content": "empty",
        "/foo~1b~0r": "unknown_field",
        "/importance": "out_of_range",
        "/categories/1": "wrong_type",
        "/metadata": "wrong_type",
        "/user_id": "wrong_type",
        "/pinned": "wrong_type",
        "/expires_at": "not_a_time",
    }


async def test_a_publisher_cannot_set_what_only_the_store_decides(store: Store) -> None:
    for name in ("id", "state", "version", "access_count", "embedded", "x" * 99):
        answer = await store.client.post("/v1/memories", json={"content": "x", name: 1})
        faults = problem(answer, 422, "invalid_memory")["errors"]
        assert [(f["pointer"], f["code"]) for f in faults] == [(f"/{name[:40]}", "unknown_field")]


async def test_wait_knows_only_embedded(store: Store) -> None:
    for wait in ("searchable", "", "EMBEDDED"):
        for route in ("/v1/memories", "/v1/memories/import"):
            answer = await store.client.post(route, json={"content": "x"}, params={"wait": wait})
            body = problem(answer, 422, "invalid_memory")
            assert body["errors"][0]["pointer"] == "/wait"
    assert await store.count() == 0


async def test_an_unknown_route_or_method_is_a_problem(store: Store) -> None:
    problem(await store.client.get("/v2/nothing"), 404, "no_such_route")
    problem(await store.client.put("/v1/memories"), 405, "wrong_method")


async def test_memories_posted_side_by_side_each_get_their_own_answer(store: Store) -> None:
    made = await asyncio.gather(*(store.post(f"fact {n}", user_id=f"u{n % 7}") for n in range(100)))
    assert [record["content"] for record in made] == [f"fact {n}" for n in range(100)]
    assert len({record["id"] for record in made}) == 100
