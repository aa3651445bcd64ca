"""Routes over merges, runs, proposals and conflicts: what they answer, refuse and never show."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from engram.storage import dedup_runs, findings, merging
from engram.storage.connection import about
from engram.storage.findings import Finding, Kind
from engram.storage.merging import Cause, Group, Member
from tests.support.merging import LEASE
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def merge(store: Store, *texts: str, cause: Cause | None = None) -> tuple[UUID, list[str]]:
    """Store texts and merge the others into the first; return the merge and the ids."""
    ids = [(await store.post(text))["id"] for text in texts]
    group = Group(UUID(ids[0]), 1, tuple(Member(UUID(one), 1, 0.98) for one in ids[1:]))
    async with about(store.service.pool, [store.workspace]) as connection:
        done = await merging.apply_group(
            connection, cause or Cause(store.workspace, "curator"), group, datetime.now(UTC)
        )
    assert done.merge_id
    return done.merge_id, ids


async def find(store: Store, kind: Kind, *texts: str, **fields: Any) -> tuple[str, list[str]]:
    """Store two texts and leave them to a person; return the id of that, and theirs."""
    ids = [(await store.post(text, **fields))["id"] for text in texts]
    one, other = ((UUID(memory), 1) for memory in ids)
    found = Finding(one, other, 0.93, "number", {"says": texts[0]})
    cause = Cause(store.workspace, "curator", rule_version="7")
    async with about(store.service.pool, [store.workspace]) as connection:
        assert await findings.record(connection, kind, cause, [found], datetime.now(UTC)) == 1
    listed = (await store.client.get(f"/v1/dedup/{kind}s", params={"limit": 500})).json()
    return listed["items"][-1]["id"], ids


async def run(store: Store) -> dedup_runs.Run:
    async with about(store.service.pool, [store.workspace]) as connection:
        begun, _ = await dedup_runs.begin(
            connection, store.workspace, actor="curator", options={"dry_run": False},
            rule_version="7", merge_cap=10, lease=LEASE,
        )  # fmt: skip
        return begun


async def test_merges_are_listed_shown_and_undone(store: Store) -> None:
    merge_id, ids = await merge(store, "likes tea", "Likes tea", "likes tea!")
    [listed] = (await store.client.get("/v1/merges")).json()["items"]
    assert (listed["id"], listed["survivor"], listed["member_count"]) == (str(merge_id), ids[0], 2)
    shown = (await store.client.get(f"/v1/merges/{merge_id}")).json()
    assert shown["content"] == "likes tea"
    assert {one["memory_id"]: one["content"] for one in shown["members"]} == {
        ids[1]: "Likes tea", ids[2]: "likes tea!",
    }  # fmt: skip
    assert {one["state"] for one in shown["members"]} == {"merged"}
    answer = await store.client.post(f"/v1/merges/{merge_id}/members/{ids[1]}/undo")
    nothing = {"already": 0, "deleted": 0, "changed": 0}
    assert answer.json() == {"restored": 1, "merges": 0, "left": nothing}
    answer = await store.client.post(f"/v1/merges/{merge_id}/undo")
    assert answer.json() == {"restored": 1, "merges": 1, "left": {**nothing, "already": 1}}
    assert await store.count("active") == 3
    assert (await store.client.get(f"/v1/merges/{merge_id}")).json()["undone_at"]


async def test_an_absorbed_memory_is_still_found_by_its_id_and_by_its_name(store: Store) -> None:
    first = await store.post("likes tea", external_id="1")
    second = await store.post("Likes tea", external_id="2")
    group = Group(UUID(first["id"]), 1, (Member(UUID(second["id"]), 1),))
    async with about(store.service.pool, [store.workspace]) as connection:
        cause = Cause(store.workspace, "curator")
        await merging.apply_group(connection, cause, group, datetime.now(UTC))
    record = (await store.client.get(f"/v1/memories/{second['id']}")).json()
    assert (record["state"], record["merged_into"]) == ("merged", first["id"])
    again = await store.client.post(
        "/v1/memories", json={"content": "Likes tea", "external_id": "2"}
    )
    assert (again.status_code, again.json()["id"]) == (200, second["id"])
    listed = (await store.client.get("/v1/memories")).json()["items"]
    assert [one["id"] for one in listed] == [first["id"]]


async def test_merges_are_listed_newest_first_in_pages_by_run_and_by_memory(store: Store) -> None:
    begun = await run(store)
    made = [await merge(store, f"a {n}", f"b {n}") for n in range(3)]
    of_run, ids = await merge(store, "tea", "Tea", cause=begun.cause())
    page = (await store.client.get("/v1/merges", params={"limit": 2})).json()
    assert [one["id"] for one in page["items"]] == [str(of_run), str(made[2][0])]
    rest = await store.client.get("/v1/merges", params={"cursor": page["next_cursor"]})
    assert [one["id"] for one in rest.json()["items"]] == [str(made[1][0]), str(made[0][0])]
    for params in ({"run_id": str(begun.id)}, {"memory_id": ids[0]}, {"memory_id": ids[1]}):
        [one] = (await store.client.get("/v1/merges", params=params)).json()["items"]
        assert (one["id"], one["run_id"]) == (str(of_run), str(begun.id))


async def test_a_run_is_shown_cancelled_and_undone(store: Store) -> None:
    begun = await run(store)
    await merge(store, "tea", "Tea", cause=begun.cause())
    path = f"/v1/dedup/runs/{begun.id}"
    refused = await store.client.post(f"{path}/undo")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_running")
    ended = (await store.client.post(f"{path}/cancel")).json()
    assert (ended["state"], ended["merged"], ended["merge_cap"]) == ("cancelled", 1, 10)
    again = await store.client.post(f"{path}/cancel")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    answer = await store.client.post(f"{path}/undo", headers={"Idempotency-Key": "k"})
    assert answer.json()["restored"] == 1
    answer = await store.client.post(f"{path}/undo", headers={"Idempotency-Key": "k"})
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert (await store.client.post(f"{path}/undo")).json()["restored"] == 0
    [listed] = (await store.client.get("/v1/dedup/runs")).json()["items"]
    assert (listed["restored"], bool(listed["undone_at"])) == (1, True)
    finished = await store.client.post(f"{path}/cancel")
    assert finished.json()["state"] == "cancelled"


async def test_a_proposal_is_shown_with_both_texts_and_accepted_through_the_same_merge(
    store: Store,
) -> None:
    proposal, ids = await find(store, "proposal", "likes tea", "enjoys tea")
    shown = (await store.client.get(f"/v1/dedup/proposals/{proposal}")).json()
    assert {one["id"]: one["content"] for one in shown["memories"]} == dict(
        zip(ids, ("likes tea", "enjoys tea"), strict=True)
    )
    assert (shown["state"], shown["stale"], shown["reason"], shown["rule_version"]) == (
        "open", False, "number", "7",
    )  # fmt: skip
    path = f"/v1/dedup/proposals/{proposal}/accept"
    headers = {"Idempotency-Key": "k"}
    done = await store.client.post(path, json={"survivor": ids[1]}, headers=headers)
    assert done.status_code == 200, done.text
    again = await store.client.post(path, json={"survivor": ids[1]}, headers=headers)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (done.json(), "true")
    merged = (await store.client.get(f"/v1/merges/{done.json()['merge_id']}")).json()
    assert (merged["survivor"], merged["reason"]) == (ids[1], "accepted")
    twice = await store.client.post(path)
    assert (twice.status_code, twice.json()["code"]) == (409, "already_decided")
    assert (await store.client.get("/v1/dedup/proposals")).json()["items"] == []
    await store.client.post(f"/v1/merges/{merged['id']}/undo")
    assert (await store.client.post(path)).json()["state"] == "accepted"


async def test_the_pinned_one_survives_and_two_pinned_ones_cannot_merge(store: Store) -> None:
    proposal, ids = await find(store, "proposal", "likes tea", "enjoys tea")
    await store.client.patch(f"/v1/memories/{ids[1]}", json={"pinned": True})
    path = f"/v1/dedup/proposals/{proposal}/accept"
    refused = await store.client.post(path, json={"survivor": ids[0]})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_mergeable")
    await store.client.patch(f"/v1/memories/{ids[0]}", json={"pinned": True})
    assert (await store.client.post(path)).json()["code"] == "not_mergeable"
    await store.client.patch(f"/v1/memories/{ids[0]}", json={"pinned": False})
    merge_id = (await store.client.post(path)).json()["merge_id"]
    assert (await store.client.get(f"/v1/merges/{merge_id}")).json()["survivor"] == ids[1]


async def test_a_rejected_pair_comes_again_only_when_a_text_changes(store: Store) -> None:
    proposal, ids = await find(store, "proposal", "likes tea", "enjoys tea")
    for _ in range(2):
        done = await store.client.post(f"/v1/dedup/proposals/{proposal}/reject")
        assert done.json() == {"id": proposal, "state": "rejected"}
    low, high = sorted(UUID(one) for one in ids)
    cause = Cause(store.workspace, "curator", rule_version="8")

    async def record(version: int) -> int:
        versions = {ids[0]: 1, ids[1]: version}
        one, other = ((memory, versions[str(memory)]) for memory in (high, low))
        async with about(store.service.pool, [store.workspace]) as connection:
            settled = await findings.settled(connection, store.workspace, [(one, other)])
            assert settled == ({(low, high)} if version == 1 else set())
            found = [Finding(one, other, 0.9, "unexplained")]
            return await findings.record(connection, "proposal", cause, found, datetime.now(UTC))

    assert await record(1) == 0
    await store.client.patch(f"/v1/memories/{ids[1]}", json={"content": "adores tea"})
    assert await record(1) == 0
    assert await record(2) == 1
    listed = (await store.client.get("/v1/dedup/proposals")).json()["items"]
    assert [(one["id"], one["state"]) for one in listed] == [(proposal, "open")]


async def test_what_was_merged_and_undone_is_settled(store: Store) -> None:
    merge_id, ids = await merge(store, "a", "b", "c")
    a, b, c = ((UUID(one), 1) for one in ids)
    pairs = [(a, b), (c, a), (b, c)]

    async def settled() -> set[tuple[UUID, UUID]]:
        async with about(store.service.pool, [store.workspace]) as connection:
            return await findings.settled(connection, store.workspace, pairs)

    assert await settled() == set()
    await store.client.post(f"/v1/merges/{merge_id}/members/{ids[1]}/undo")
    assert await settled() == {(a[0], b[0]), (b[0], c[0])}
    await store.client.post(f"/v1/merges/{merge_id}/undo")
    assert len(await settled()) == 3


async def test_what_changed_since_is_stale_and_not_listed(store: Store) -> None:
    for kind, verb, body in (
        ("proposal", "accept", {}),
        ("conflict", "resolve", {"keep": "newer"}),
    ):
        found, ids = await find(store, kind, f"{kind} 1", f"{kind} 2")
        await store.client.patch(f"/v1/memories/{ids[0]}", json={"content": f"{kind} 3"})
        assert (await store.client.get(f"/v1/dedup/{kind}s")).json()["items"] == []
        assert (await store.client.get(f"/v1/dedup/{kind}s/{found}")).json()["stale"] is True
        refused = await store.client.post(f"/v1/dedup/{kind}s/{found}/{verb}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "finding_stale")


async def test_a_conflict_names_the_newer_and_keeping_it_supersedes_the_other(
    store: Store,
) -> None:
    conflict, ids = await find(store, "conflict", "lives in Ulm", "lives in Bonn")
    shown = (await store.client.get(f"/v1/dedup/conflicts/{conflict}")).json()
    assert shown["newer"] == ids[1]
    path = f"/v1/dedup/conflicts/{conflict}"
    before = await store.sql.fetchrow("SELECT * FROM engram.memory WHERE id = $1", UUID(ids[0]))
    done = await store.client.post(f"{path}/resolve", json={"keep": "newer"})
    assert done.json() == {"id": conflict, "state": "resolved", "kept": ids[1]}
    older = (await store.client.get(f"/v1/memories/{ids[0]}")).json()
    assert older["state"] == "superseded"
    assert older["valid_until"] is not None
    twice = await store.client.post(f"{path}/resolve", json={"keep": "both"})
    assert (twice.status_code, twice.json()["code"]) == (409, "already_decided")
    for _ in range(2):
        assert (await store.client.post(f"{path}/undo")).json()["state"] == "open"
    after = await store.sql.fetchrow("SELECT * FROM engram.memory WHERE id = $1", UUID(ids[0]))
    assert after == before
    done = await store.client.post(f"{path}/resolve", json={"keep": "both"})
    assert done.json()["kept"] is None
    assert await store.count("active") == 2
    assert (await store.client.get("/v1/dedup/conflicts")).json()["items"] == []
    past = await store.client.get("/v1/dedup/conflicts", params={"state": "resolved"})
    assert [one["id"] for one in past.json()["items"]] == [conflict]


@pytest.mark.parametrize(
    ("path", "body", "code", "fault"),
    [
        ("proposals/{}/accept", {"survivor": "x"}, "invalid_decision", "not_an_id"),
        ("proposals/{}/accept", {"survivor": 3}, "invalid_decision", "not_an_id"),
        ("proposals/{}/accept", {"keep": 3}, "invalid_decision", "unknown_field"),
        ("proposals/{}/accept", [], "invalid_decision", "wrong_type"),
        ("proposals/{}/accept", {"survivor": str(UUID(int=7))}, "not_of_the_pair", None),
    ],
)
async def test_a_decision_that_cannot_be_read_is_422(
    store: Store, path: str, body: Any, code: str, fault: str | None
) -> None:
    found, _ = await find(store, "proposal", "likes tea", "enjoys tea")
    answer = await store.client.post(f"/v1/dedup/{path.format(found)}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert [one["code"] for one in answer.json()["errors"]] == ([fault] if fault else [])
    assert await store.count("active") == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_decision"),
        ({"keep": 1}, "invalid_decision"),
        ({"keep": "x"}, "not_of_the_pair"),
    ],
)
async def test_a_resolution_must_say_what_is_kept(store: Store, body: Any, code: str) -> None:
    found, _ = await find(store, "conflict", "lives in Ulm", "lives in Bonn")
    answer = await store.client.post(f"/v1/dedup/conflicts/{found}/resolve", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_key_that_was_used_for_another_decision_is_refused(store: Store) -> None:
    one, _ = await find(store, "proposal", "likes tea", "enjoys tea")
    other, _ = await find(store, "proposal", "likes milk", "enjoys milk")
    headers = {"Idempotency-Key": "k"}
    await store.client.post(f"/v1/dedup/proposals/{one}/reject", headers=headers)
    answer = await store.client.post(f"/v1/dedup/proposals/{other}/reject", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_findings_are_listed_by_namespace_and_in_pages(store: Store) -> None:
    made = [
        (await find(store, "conflict", f"a {n}", f"b {n}", user_id=f"u{n % 2}"))[0]
        for n in range(4)
    ]
    page = (await store.client.get("/v1/dedup/conflicts", params={"limit": 3})).json()
    assert [one["id"] for one in page["items"]] == made[:3]
    rest = await store.client.get("/v1/dedup/conflicts", params={"cursor": page["next_cursor"]})
    assert [one["id"] for one in rest.json()["items"]] == made[3:]
    mine = await store.client.get("/v1/dedup/conflicts", params={"namespace": "user:u1"})
    assert [one["id"] for one in mine.json()["items"]] == made[1::2]
    assert (await store.client.get("/v1/dedup/conflicts?namespace=%00")).json()["items"] == []


async def test_other_workspaces_are_404_everywhere_and_lists_are_empty(store: Store) -> None:
    begun = await run(store)
    merge_id, ids = await merge(store, "tea", "Tea", cause=begun.cause())
    proposal, _ = await find(store, "proposal", "likes tea", "enjoys tea")
    conflict, _ = await find(store, "conflict", "lives in Ulm", "lives in Bonn")
    _, key = await store.other_workspace()
    routes = [
        ("GET", f"/v1/merges/{merge_id}"),
        ("POST", f"/v1/merges/{merge_id}/undo"),
        ("POST", f"/v1/merges/{merge_id}/members/{ids[1]}/undo"),
        ("GET", f"/v1/dedup/runs/{begun.id}"),
        ("POST", f"/v1/dedup/runs/{begun.id}/cancel"),
        ("POST", f"/v1/dedup/runs/{begun.id}/undo"),
        ("GET", f"/v1/dedup/proposals/{proposal}"),
        ("POST", f"/v1/dedup/proposals/{proposal}/accept"),
        ("POST", f"/v1/dedup/proposals/{proposal}/reject"),
        ("GET", f"/v1/dedup/conflicts/{conflict}"),
        ("POST", f"/v1/dedup/conflicts/{conflict}/resolve"),
        ("POST", f"/v1/dedup/conflicts/{conflict}/undo"),
    ]
    named = (str(merge_id), str(begun.id), proposal, conflict)
    async with client_of(store.app, key) as other:
        for client, change in ((other, None), (store.client, "nonsense"), (store.client, "zero")):
            for method, route in routes:
                path = route
                for one in named:
                    if change is not None:
                        path = path.replace(one, "x" if change == "nonsense" else str(UUID(int=0)))
                body = {"keep": "both"} if path.endswith("/resolve") else None
                answer = await client.request(method, path, json=body)
                assert answer.status_code == 404, (method, path, answer.text)
                assert answer.json()["code"].endswith("_not_found")
        for route in ("merges", "dedup/runs", "dedup/proposals", "dedup/conflicts"):
            assert (await other.get(f"/v1/{route}")).json()["items"] == []
        assert (await other.get(f"/v1/merges?memory_id={ids[0]}")).json()["items"] == []
    assert await store.count("merged") == 1


async def test_deleting_a_memory_erases_what_was_found_about_it(store: Store) -> None:
    secret = "the sapphire heron"
    _, ids = await find(store, "proposal", secret, "a heron")
    _, others = await find(store, "conflict", f"{secret} sings", "it is silent")
    for one in (ids[0], others[0]):
        assert (await store.client.delete(f"/v1/memories/{one}")).status_code == 204
    for table in ("proposal", "conflict"):
        assert await store.sql.fetchval(f"SELECT count(*) FROM engram.{table}") == 0


async def test_an_undo_brings_the_vectors_back_and_the_memory_into_search(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True
    ) as store:
        merge_id, ids = await merge(store, "likes green tea", "likes green tea!")

        async def found() -> set[str]:
            answer = await store.client.post("/v1/memories/search", json={"query": "green tea"})
            return {one["memory"]["id"] for one in answer.json()["results"]}

        async def is_found(wanted: set[str]) -> bool:
            return await found() == wanted

        await eventually(lambda: is_found({ids[0]}), 20, 0.05)
        await store.client.post(f"/v1/merges/{merge_id}/undo")
        await eventually(lambda: is_found(set(ids)), 20, 0.05)


async def test_what_an_import_gave_a_new_text_is_not_touched_by_an_undo(store: Store) -> None:
    first = await store.post("likes tea", importance=0.2)
    second = await store.post("Likes tea", source="native", external_id="2", importance=0.8)
    group = Group(UUID(first["id"]), 1, (Member(UUID(second["id"]), 1),))
    async with about(store.service.pool, [store.workspace]) as connection:
        cause = Cause(store.workspace, "curator")
        done = await merging.apply_group(connection, cause, group, datetime.now(UTC))
    report = await store.import_(
        [{"content": "likes coffee", "external_id": "2"}], strategy="merge", format="native"
    )
    assert report["updated"] == 1, report
    undone = (await store.client.post(f"/v1/merges/{done.merge_id}/undo")).json()
    assert (undone["restored"], undone["left"]["already"]) == (0, 1)
    record = (await store.client.get(f"/v1/memories/{second['id']}")).json()
    assert (record["state"], record["content"], record["version"]) == ("active", "likes coffee", 2)
    survivor = (await store.client.get(f"/v1/memories/{first['id']}")).json()
    assert survivor["importance"] == 0.2
