"""Decay over HTTP: settings, preview, runs, bringing memories back; and nobody sees another's."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from engram.storage import decay_settings, decaying
from tests.support.fading import aged, carry_out, in_state, last_run, sweep, with_vectors
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually

LONG_AGO = 400.0
DEFAULTS = {"half_life_days": 30.0, "floor": 0.05, "grace_days": 30.0, "enabled": True}
NOTHING = dict.fromkeys(DEFAULTS)


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True
    ) as opened:
        yield opened


async def get(store: Store, path: str, **params: Any) -> dict[str, Any]:
    answer = await store.client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def change(store: Store, body: Any, **params: Any) -> dict[str, Any]:
    answer = await store.client.patch("/v1/decay", params=params, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def archived(store: Store, count: int = 3, **columns: Any) -> tuple[list[UUID], str]:
    ids = await aged(store, count, LONG_AGO, **columns)
    await sweep(store)
    assert await in_state(store, "archived") >= set(ids)
    return ids, (await last_run(store))["id"]


async def test_settings_are_inherited_field_by_field_and_null_clears_them(store: Store) -> None:
    assert await get(store, "/v1/decay") == {
        "namespace": None,
        "prefix": None,
        "own": NOTHING,
        "effective": DEFAULTS,
        "defaults": DEFAULTS,
    }
    await change(store, {"half_life_days": 10})
    await change(store, {"floor": 0.2}, prefix="user:")
    alice = await change(store, {"enabled": False}, namespace="user:alice")
    assert (alice["namespace"], alice["own"]) == ("user:alice", {**NOTHING, "enabled": False})
    assert alice["effective"] == {
        "half_life_days": 10.0,
        "floor": 0.2,
        "grace_days": 30.0,
        "enabled": False,
    }
    assert (await get(store, "/v1/decay", namespace="global"))["effective"]["floor"] == 0.05
    listed = (await get(store, "/v1/decay/namespaces"))["items"]
    assert listed == [
        {"namespace": None, "prefix": "user:", **NOTHING, "floor": 0.2},
        {"namespace": "user:alice", "prefix": None, **NOTHING, "enabled": False},
    ]
    await change(store, {"enabled": None}, namespace="user:alice")
    await change(store, {"floor": None}, prefix="user:")
    await change(store, {"half_life_days": None})
    assert (await get(store, "/v1/decay"))["effective"] == DEFAULTS
    assert await store.sql.fetchval("SELECT count(*) FROM engram.decay_setting") == 0


async def test_the_list_of_settings_goes_by_pages(store: Store) -> None:
    for name in ("a", "ab", "b"):
        await change(store, {"floor": 0.1}, namespace=name)
        await change(store, {"floor": 0.1}, prefix=name)
    seen: list[tuple[str | None, str | None]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(store, "/v1/decay/namespaces", limit=1, **cursor)
        seen += [(item["namespace"], item["prefix"]) for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [(n, None) if p == 0 else (None, n) for n in ("a", "ab", "b") for p in (0, 1)]


async def test_settings_that_cannot_be_are_422_with_pointers(store: Store) -> None:
    for body, pointer in (({}, ""), ({"floor": 2}, "/floor"), ({"x": 1}, "/x"), ([], "")):
        answer = await store.client.patch("/v1/decay", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    for params, pointer in (
        ({"namespace": "a", "prefix": "b"}, "/prefix"),
        ({"namespace": "a\nb"}, "/namespace"),
        ({"prefix": "x" * 300}, "/prefix"),
    ):
        for answer in (
            await store.client.get("/v1/decay", params=params),
            await store.client.patch("/v1/decay", params=params, json={"floor": 0.1}),
        ):
            assert answer.status_code == 422, answer.text
            assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_workspace_has_a_bounded_number_of_rules(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decay_settings, "MAX_RULES", 2)
    for name in ("a", "b"):
        await change(store, {"floor": 0.1}, namespace=name)
    answer = await store.client.patch("/v1/decay", params={"namespace": "c"}, json={"floor": 0.1})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_decay_rules")
    await change(store, {"floor": 0.2}, namespace="b")


async def test_a_change_of_settings_is_audited(store: Store) -> None:
    await change(store, {"floor": 0.1}, namespace="user:a")
    [entry] = (await get(store, "/v1/audit", kind="decay"))["items"]
    assert (entry["action"], entry["subject"]) == ("decay.changed", "user:a")
    assert entry["counts"] == {"floor": 0.1}


async def test_preview_says_what_goes_now_and_within_a_week_and_a_month(store: Store) -> None:
    await aged(store, 60, LONG_AGO, "user:large")
    await aged(store, 2, 125, "user:soon")
    await aged(store, 3, 105, "user:later")
    await aged(store, 4, 1, "user:new")
    await aged(store, 2, LONG_AGO, "user:pinned", pinned=True)
    found = await get(store, "/v1/decay/preview")
    assert [found[name] for name in ("due", "archived", "slowed", "namespaces")] == [60, 12, 1, 3]
    assert (found["due_in_7_days"], found["due_in_30_days"]) == (62, 65)
    assert found["items"][0] == {
        "namespace": "user:large",
        "active": 60,
        "due": 60,
        "archived": 12,
        "due_in_7_days": 60,
        "due_in_30_days": 60,
        "slowed": True,
    }
    only = await get(store, "/v1/decay/preview", namespace="user:soon")
    assert [item["namespace"] for item in only["items"]] == ["user:soon"]
    assert await in_state(store, "archived") == set()


async def test_a_dry_run_is_the_preview_and_changes_nothing(store: Store) -> None:
    await aged(store, 5, LONG_AGO)
    answer = await store.client.post("/v1/decay/runs", json={"dry_run": True})
    assert (answer.status_code, answer.json()["archived"]) == (200, 5)
    assert await store.sql.fetchval("SELECT count(*) FROM engram.decay_run") == 0


async def test_a_run_that_is_asked_for_is_carried_out_by_a_curator(store: Store) -> None:
    mine = await aged(store, 3, LONG_AGO)
    await aged(store, 3, LONG_AGO, "user:b")
    await store.sql.execute(
        "INSERT INTO engram.sweep (name, every, next_due) VALUES ('decay-runs', '1 h', 'infinity')"
    )
    answer = await store.client.post("/v1/decay/runs", json={"namespace": "user:a"})
    run = answer.json()
    assert (answer.status_code, run["state"], run["namespace"]) == (202, "queued", "user:a")
    assert await store.sql.fetchval("SELECT next_due <= now() FROM engram.sweep")
    again = await store.client.post("/v1/decay/runs", json={"namespace": "user:a"})
    assert again.json()["id"] == run["id"]
    await carry_out(store)
    shown = await get(store, f"/v1/decay/runs/{run['id']}")
    assert (shown["state"], shown["archived"]) == ("done", 3)
    assert await in_state(store, "archived") == set(mine)
    page = await get(store, f"/v1/decay/runs/{run['id']}/memories", limit=2)
    rest = await get(store, f"/v1/decay/runs/{run['id']}/memories", cursor=page["next_cursor"])
    items = [*page["items"], *rest["items"]]
    assert [UUID(item["memory_id"]) for item in items] == sorted(mine)
    assert all(0 < item["importance_left"] < 0.05 for item in items)
    assert {item["namespace"] for item in items} == {"user:a"}


async def test_a_run_with_nothing_due_is_done_with_nothing(store: Store) -> None:
    run = (await store.client.post("/v1/decay/runs", json={})).json()
    await carry_out(store)
    shown = await get(store, f"/v1/decay/runs/{run['id']}")
    assert (shown["state"], shown["archived"]) == ("done", 0)


async def test_a_repeated_request_asks_for_one_run(store: Store) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await store.client.post("/v1/decay/runs", json={}, headers=headers)
    await carry_out(store)
    second = await store.client.post("/v1/decay/runs", json={}, headers=headers)
    assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])
    assert second.headers["Idempotency-Replayed"] == "true"
    other = await store.client.post("/v1/decay/runs", json={"namespace": "a"}, headers=headers)
    assert other.status_code == 422


async def test_a_repeated_restore_is_answered_as_the_first(store: Store) -> None:
    (one, *_), run = await archived(store)
    for path in (f"/v1/memories/{one}/restore", f"/v1/decay/runs/{run}/restore"):
        headers = {"Idempotency-Key": path}
        first = await store.client.post(path, headers=headers)
        second = await store.client.post(path, headers=headers)
        assert (first.status_code, second.status_code) == (200, 200)
        assert second.json() == first.json()
        assert second.headers["Idempotency-Replayed"] == "true"
    assert first.json() == {"restored": 2, "kept": 0}
    await store.client.delete(f"/v1/memories/{one}")
    headers = {"Idempotency-Key": f"/v1/memories/{one}/restore"}
    erased = await store.client.post(f"/v1/memories/{one}/restore", headers=headers)
    assert (erased.status_code, erased.json()["code"]) == (404, "memory_deleted")


async def test_a_run_that_cannot_be_is_422(store: Store) -> None:
    for body, pointer in (
        ([], ""),
        ({"x": 1}, "/x"),
        ({"dry_run": 1}, "/dry_run"),
        ({"namespace": 1}, "/namespace"),
    ):
        answer = await store.client.post("/v1/decay/runs", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_restored_run_is_active_and_searchable_again_and_stays(store: Store) -> None:
    ids, run = await archived(store)
    assert await with_vectors(store) == set()
    answer = await store.client.post(f"/v1/decay/runs/{run}/restore")
    assert (answer.status_code, answer.json()) == (200, {"restored": 3, "kept": 0})
    assert await in_state(store, "active") == set(ids)

    async def searchable() -> bool:
        return await with_vectors(store) == set(ids)

    await eventually(searchable)
    await sweep(store)
    assert await in_state(store, "active") == set(ids)
    assert (await get(store, f"/v1/decay/runs/{run}"))["restored"] == 3
    again = await store.client.post(f"/v1/decay/runs/{run}/restore")
    assert again.json() == {"restored": 0, "kept": 0}
    actions = [item["action"] for item in (await get(store, "/v1/audit", kind="decay"))["items"]]
    assert actions == ["decay.restored", "decay.done"]


async def test_a_restore_leaves_what_was_deleted_or_revived_since(store: Store) -> None:
    (gone, revived, back), run = await archived(store)
    assert (await store.client.delete(f"/v1/memories/{gone}")).status_code == 204
    await store.sql.execute("UPDATE engram.memory SET state = 'active' WHERE id = $1", revived)
    answer = await store.client.post(f"/v1/decay/runs/{run}/restore")
    assert answer.json() == {"restored": 1, "kept": 2}
    assert await in_state(store, "active") == {revived, back}
    assert await in_state(store, "deleted") == {gone}


async def test_a_large_run_is_restored_in_parts_and_in_full(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decaying, "BATCH", 7)
    ids, run = await archived(store, 20)
    answer = await store.client.post(f"/v1/decay/runs/{run}/restore")
    assert answer.json() == {"restored": 20, "kept": 0}
    assert await in_state(store, "active") == set(ids)


async def test_a_run_gives_back_only_what_no_later_run_archived(store: Store) -> None:
    (memory,), first = await archived(store, 1)
    await store.sql.execute("UPDATE engram.memory SET state = 'active' WHERE id = $1", memory)
    await sweep(store)
    second = (await last_run(store))["id"]
    assert second != first
    assert (await store.client.post(f"/v1/decay/runs/{first}/restore")).json()["restored"] == 0
    assert (await store.client.post(f"/v1/decay/runs/{second}/restore")).json()["restored"] == 1


async def test_one_memory_is_restored_whatever_archived_it(store: Store) -> None:
    (one, other), run = await archived(store, 2)
    answer = await store.client.post(f"/v1/memories/{one}/restore")
    assert (answer.status_code, answer.json()["state"]) == (200, "active")
    assert answer.json()["version"] == 1
    again = await store.client.post(f"/v1/memories/{one}/restore")
    assert (again.status_code, again.json()) == (
        200,
        {**answer.json(), "embedded": again.json()["embedded"]},
    )
    assert await in_state(store, "archived") == {other}
    assert (await get(store, f"/v1/decay/runs/{run}"))["restored"] == 1
    item = {"content": "by an import", "state": "archived", "id": str(uuid4())}
    report = await store.import_([item], format="native")
    assert report["imported"] == 1
    [imported] = (await get(store, "/v1/memories", state="archived", namespace="global"))["items"]
    answer = await store.client.post(f"/v1/memories/{imported['id']}/restore")
    assert answer.json()["state"] == "active"


async def test_only_what_is_archived_can_be_restored(store: Store) -> None:
    [merged] = await aged(store, 1, 1, state="merged")
    answer = await store.client.post(f"/v1/memories/{merged}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_archived")
    for unknown in (uuid4(), "no-id"):
        answer = await store.client.post(f"/v1/memories/{unknown}/restore")
        assert (answer.status_code, answer.json()["code"]) == (404, "memory_not_found")


async def test_a_run_that_is_running_cannot_be_restored_yet(store: Store) -> None:
    _, run = await archived(store)
    await store.sql.execute("UPDATE engram.decay_run SET state = 'running', lease_until = now()")
    answer = await store.client.post(f"/v1/decay/runs/{run}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_running")


async def test_another_workspace_sees_and_changes_nothing(store: Store) -> None:
    _, key = await store.other_workspace()
    (memory, *_), run = await archived(store)
    await aged(store, 2, LONG_AGO, "user:secret")
    await change(store, {"floor": 0.9}, namespace="user:secret")
    await change(store, {"floor": 0.8})
    await store.client.post("/v1/decay/runs", json={"namespace": "user:secret"})
    before = await store.sql.fetch("SELECT id, state FROM engram.memory ORDER BY id")
    async with client_of(store.app, key) as other:
        for path in (f"/v1/decay/runs/{run}", f"/v1/decay/runs/{run}/memories"):
            assert (await other.get(path)).status_code == 404
        for path in (f"/v1/decay/runs/{run}/restore", f"/v1/memories/{memory}/restore"):
            assert (await other.post(path)).status_code == 404
        for path in ("/v1/decay/runs", "/v1/decay/namespaces"):
            assert (await other.get(path)).json()["items"] == []
        for params in ({}, {"namespace": "user:secret"}):
            shown = (await other.get("/v1/decay", params=params)).json()
            assert (shown["own"], shown["effective"]) == (NOTHING, DEFAULTS)
        for params in ({}, {"namespace": "user:secret"}):
            assert (await other.get("/v1/decay/preview", params=params)).json()["items"] == []
        dry = await other.post("/v1/decay/runs", json={"dry_run": True})
        assert dry.json()["items"] == []
        patched = await other.patch(
            "/v1/decay", params={"namespace": "user:secret"}, json={"floor": 0}
        )
        assert patched.status_code == 200
        asked = await other.post("/v1/decay/runs", json={"namespace": "user:secret"})
        assert asked.json()["namespace"] == "user:secret"
        await store.sql.execute(
            "DELETE FROM engram.decay_run WHERE workspace = $1", store.workspace
        )
        await carry_out(store)
        assert (await other.get(f"/v1/decay/runs/{asked.json()['id']}")).json()["archived"] == 0
    assert await store.sql.fetch("SELECT id, state FROM engram.memory ORDER BY id") == before
    assert (await get(store, "/v1/decay", namespace="user:secret"))["own"]["floor"] == 0.9


async def test_every_route_needs_a_key_with_the_scope_memories(store: Store) -> None:
    key = await store.key_of(store.workspace, ["operator"])
    some = uuid4()
    async with client_of(store.app, key) as operator:
        for method, path in (
            ("GET", "/v1/decay"),
            ("PATCH", "/v1/decay"),
            ("GET", "/v1/decay/namespaces"),
            ("GET", "/v1/decay/preview"),
            ("POST", "/v1/decay/runs"),
            ("GET", "/v1/decay/runs"),
            ("GET", f"/v1/decay/runs/{some}"),
            ("GET", f"/v1/decay/runs/{some}/memories"),
            ("POST", f"/v1/decay/runs/{some}/restore"),
            ("POST", f"/v1/memories/{some}/restore"),
        ):
            answer = await operator.request(method, path, json={})
            assert answer.status_code == 403, (path, answer.text)
            bare = await operator.request(method, path, json={}, headers={"Authorization": ""})
            assert bare.status_code == 401


async def test_a_blended_search_fades_by_the_half_life_of_each_namespace(store: Store) -> None:
    made = {}
    for name in ("user:slow", "user:fast"):
        body = {"content": f"likes green tea {name}", "namespace": name, "importance": 1.0}
        answer = await store.client.post("/v1/memories?wait=embedded", json=body)
        made[name] = answer.json()["id"]
    await store.sql.execute("UPDATE engram.memory SET reinforced_at = now() - interval '30 days'")
    await change(store, {"half_life_days": 10}, namespace="user:fast")

    async def scores(rank: str) -> dict[str, float]:
        body = {"query": "likes green tea", "rank": rank}
        answer = await store.client.post("/v1/memories/search", json=body)
        return {r["memory"]["id"]: r["score"] for r in answer.json()["results"]}

    plain, blended = await scores("similarity"), await scores("blended")
    for name, left in (("user:slow", 0.5), ("user:fast", 0.125)):
        expected = 0.75 * plain[made[name]] + 0.25 * left
        assert blended[made[name]] == pytest.approx(expected, abs=1e-3), json.dumps(blended)
