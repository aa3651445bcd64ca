"""The dedup sweep on a real store: what it merges, leaves, proposes; dirt, caps, dry runs, undo."""

import asyncio
import json
from collections.abc import AsyncIterator
from unittest.mock import patch
from uuid import UUID

import asyncpg
import pytest

from engram_curator.dedup import BatchFailedError, begin_due, work_once
from engram_curator.dedup_batch import Batch
from engram_curator.dedup_process import Comparer, ComparisonFailedError
from tests.support.comparers import comparing
from tests.support.store import Store, open_store
from tests.support.sweeping import (
    LEASE,
    add,
    dump,
    embed,
    finish,
    like,
    show,
    start,
    states,
    sweep,
)

LEDGER = ("engram.memory", "engram_vec.space_1", "engram.merge", "engram.merge_member")
FOUND = ("engram.proposal", "engram.conflict")


@pytest.fixture
async def store(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, "hashing@64", superuser_url=superuser_url
    ) as opened:
        yield opened


async def test_restatements_merge_and_contradictions_are_told(store: Store) -> None:
    ids = await add(
        store,
        ["Alice likes green tea.", "alice likes green tea", "Alice doesn't like green tea.",
         "The meeting is on Monday."],
        [like(1), like(1, 0.97, 1), like(1, 0.96, 2), like(9)],
    )  # fmt: skip
    run = await sweep(store)
    assert run["state"] == "done", run
    assert sorted(await states(store, ids)) == ["active", "active", "active", "merged"]
    assert await states(store, ids[2:]) == ["active", "active"]
    assert run["merged"] == 1
    conflicts = (await store.client.get("/v1/dedup/conflicts")).json()["items"]
    assert [conflict["reason"] for conflict in conflicts] == ["negation"]
    assert run["counts"]["conflicts"] == 1
    assert run["counts"]["namespaces_done"] == run["counts"]["namespaces"] == 1


async def test_undoing_the_run_gives_every_memory_back_as_it_was(store: Store) -> None:
    texts = ["Bob plays chess.", "bob plays chess", "Bob plays chess!", "Bob plays chess"]
    await add(store, texts, [like(2)] * 4)
    before = await dump(store, "engram.memory")
    run = await sweep(store)
    assert run["merged"] == 3
    assert (await store.client.post(f"/v1/dedup/runs/{run['id']}/undo")).status_code == 200
    assert await dump(store, "engram.memory") == before


async def test_what_a_person_undid_is_not_merged_again(store: Store) -> None:
    ids = await add(store, ["Bob plays chess.", "bob plays chess"], [like(2)] * 2)
    run = await sweep(store)
    await store.client.post(f"/v1/dedup/runs/{run['id']}/undo")
    await embed(store, ids, [like(2)] * 2)
    again = await sweep(store)
    assert (again["state"], again["merged"]) == ("done", 0)


async def test_a_dry_run_changes_nothing_and_says_what_it_would_do(store: Store) -> None:
    await add(
        store,
        ["Alice likes tea.", "alice likes tea", "Alice doesn't like tea.", "Alice likes teal."],
        [like(1), like(1, 0.98, 1), like(1, 0.97, 2), like(1, 0.9, 3)],
    )
    before = await dump(store, *LEDGER, *FOUND, "engram.namespace")
    run = await sweep(store, dry_run=True)
    assert await dump(store, *LEDGER, *FOUND, "engram.namespace") == before
    assert (run["state"], run["merged"], run["counts"]["would_merge"]) == ("done", 0, 1)
    assert run["counts"]["would_conflict"] >= 1
    preview = (await store.client.get(f"/v1/dedup/runs/{run['id']}/preview")).json()
    [group] = preview["items"]
    texts = {group["survivor"]["content"], group["members"][0]["content"]}
    assert texts == {"Alice likes tea.", "alice likes tea"}


async def test_only_what_is_new_is_compared_and_a_new_copy_is_found(store: Store) -> None:
    await add(store, ["One fact.", "Another matter."], [like(1), like(2)])
    assert (await sweep(store))["counts"]["namespaces"] == 1
    idle = await sweep(store)
    assert idle["counts"] == {"namespaces": 0, "memories": 0}
    await add(store, ["one fact"], [like(1, 0.99, 4)])
    assert (await sweep(store))["merged"] == 1


async def test_nothing_crosses_workspaces_namespaces_or_owners(store: Store) -> None:
    other, _ = await store.other_workspace()
    text = ["Carol has a red bike."]
    ids = [
        *await add(store, text, [like(3)], namespace="user:a"),
        *await add(store, text, [like(3)], namespace="user:b"),
        *await add(store, text, [like(3)], namespace="user:a", agent_id="x"),
        *await add(store, text, [like(3)], namespace="user:a", workspace=other),
    ]
    run = await sweep(store, max_share=1)
    assert (run["merged"], await states(store, ids)) == (0, ["active"] * 4)


async def test_disagreeing_metadata_is_left_to_a_person(store: Store) -> None:
    await add(store, ["Dan owns a boat."], [like(4)], metadata={"source": "crm"})
    await add(store, ["dan owns a boat"], [like(4)], metadata={"source": "mail"})
    run = await sweep(store)
    assert (run["merged"], run["counts"]["proposals"]) == (0, 1)
    [proposal] = (await store.client.get("/v1/dedup/proposals")).json()["items"]
    assert proposal["reason"] == "metadata"


async def test_a_pinned_memory_survives_and_two_pinned_ones_stay(store: Store) -> None:
    plain = await add(store, ["Eve runs daily."], [like(5)], importance=0.9)
    pinned = await add(store, ["eve runs daily"], [like(5)], pinned=True)
    twice = await add(store, ["Fay sings.", "fay sings"], [like(6)] * 2, pinned=True)
    run = await sweep(store)
    assert await states(store, [*plain, *pinned, *twice]) == ["merged", *["active"] * 3]
    assert run["merged"] == 1


async def test_zero_vectors_and_equal_vectors_of_different_texts_merge_nothing(
    store: Store,
) -> None:
    await store.sql.execute(
        "ALTER TABLE engram_vec.space_1 DROP CONSTRAINT IF EXISTS space_1_embedding_check"
    )
    zeros = [0.0] * 64
    await add(store, ["Gus cooks.", "gus cooks", "Gus swims."], [zeros] * 3, namespace="zero")
    equal = [f"The code of door {n} is {n * 7919}." for n in range(40)]
    await add(store, equal, [like(7)] * 40, namespace="equal")
    run = await sweep(store, max_share=1)
    assert (run["state"], run["merged"]) == ("done", 0), run
    assert run["counts"]["pairs"] == 40 * 39 // 2


async def test_five_thousand_copies_become_one_and_come_back(store: Store) -> None:
    forms = ("Hal drinks coffee.", "hal drinks coffee", "Hal drinks coffee!", "Hal drinks coffee")
    await add(store, [forms[n % 4] for n in range(5_000)], [like(8)] * 5_000)
    before = await dump(store, "engram.memory")
    held = await sweep(store)
    assert (held["state"], held["merged"]) == ("capped", 0), held
    assert held["error"]["code"] == "dedup_capped"
    run = await sweep(store, max_share=1)
    assert (run["state"], run["merged"]) == ("done", 4_999), run
    await store.client.post(f"/v1/dedup/runs/{run['id']}/undo")
    assert await dump(store, "engram.memory") == before


async def test_a_cap_on_the_number_ends_the_run_and_the_next_one_goes_on(store: Store) -> None:
    for n in range(4):
        await add(store, [f"Fact {n} holds.", f"fact {n} holds"], [like(20 + n)] * 2,
                  namespace=f"user:{n}")  # fmt: skip
    run = await sweep(store, max_merged=2)
    assert (run["state"], run["merged"]) == ("capped", 2)
    assert (await sweep(store))["merged"] == 2


async def test_a_namespace_without_a_live_memory_is_done_with(store: Store) -> None:
    ids = await add(store, ["Kay sings.", "kay sings"], [like(15)] * 2)
    await store.sql.execute(
        "UPDATE engram.memory SET expires_at = now() - interval '1 s' WHERE id = ANY ($1)", ids
    )
    run = await sweep(store)
    assert (run["state"], run["merged"], run["counts"]["namespaces_done"]) == ("done", 0, 1)
    assert (await sweep(store))["counts"]["namespaces"] == 0


async def test_a_cancelled_run_merges_nothing_more(store: Store) -> None:
    ids = await add(store, ["Ida paints.", "ida paints"], [like(9)] * 2)
    run = await start(store)
    await store.client.post(f"/v1/dedup/runs/{run['id']}/cancel")
    ended = await finish(store, run["id"])
    assert (ended["state"], await states(store, ids)) == ("cancelled", ["active"] * 2)


async def test_a_run_of_one_namespace_leaves_the_others(store: Store) -> None:
    here = await add(store, ["Jo dances.", "jo dances"], [like(10)] * 2, namespace="user:jo")
    there = await add(store, ["Jo dances.", "jo dances"], [like(10)] * 2, namespace="user:ji")
    await sweep(store, namespace="user:jo")
    assert sorted(await states(store, here)) == ["active", "merged"]
    assert await states(store, there) == ["active"] * 2


@pytest.mark.parametrize(
    "options",
    [{"max_share": 0}, {"max_share": 2}, {"max_share": True}, {"max_merged": 0},
     {"namespace": ""}, {"dry_run": 1}, {"unknown": 1}],
)  # fmt: skip
async def test_options_that_cannot_be_taken_are_refused(store: Store, options: dict) -> None:
    assert (await store.client.post("/v1/dedup/runs", json=options)).status_code == 422


async def test_two_runs_at_once_are_one_and_come_to_the_same(store: Store) -> None:
    """R17: begun twice and shared by two curators, a run does what one alone does."""
    other, key = await store.other_workspace()
    alone = await _facts(store, other)
    assert (await _sweep_of(store, key))["state"] == "done"
    shared = await _facts(store, store.workspace)
    first, second = await asyncio.gather(start(store, max_share=1), start(store, max_share=1))
    assert first["id"] == second["id"]
    assert sorted((first["begun"], second["begun"])) == [False, True]
    await asyncio.gather(finish(store, first["id"]), finish(store, first["id"]))
    run = await show(store, first["id"])
    assert (run["state"], run["counts"]["namespaces_done"]) == ("done", 30), run
    assert await _came_to(store, shared) == await _came_to(store, alone)


async def _facts(store: Store, workspace: UUID) -> list[UUID]:
    ids = []
    for n in range(30):
        texts = [f"Fact {n} holds.", f"fact {n} holds", f"Fact {n + 1} holds.", "Other."]
        vectors = [like(n), like(n, 0.98, 1), like(n, 0.97, 2), like(n + 500)]
        ids += await add(store, texts, vectors, namespace=f"user:{n:02}", workspace=workspace)
    return ids


async def _all_of_it(store: Store, comparer: Comparer) -> None:
    while await work_once(store.service, comparer, LEASE):
        pass


async def _sweep_of(store: Store, key: str) -> dict:
    headers = {"Authorization": f"Bearer {key}"}
    begun = (await store.client.post("/v1/dedup/runs", json={}, headers=headers)).json()
    async with comparing() as comparer:
        await _all_of_it(store, comparer)
    answer = await store.client.get(f"/v1/dedup/runs/{begun['id']}", headers=headers)
    return answer.json()


async def _came_to(store: Store, ids: list[UUID]) -> list[tuple[str, str, str | None]]:
    rows = await store.sql.fetch(
        "SELECT m.namespace, m.content, m.state, s.content AS survivor FROM engram.memory m "
        "LEFT JOIN engram.memory s ON s.id = m.merged_into WHERE m.id = ANY ($1)",
        ids,
    )
    return sorted(tuple(row) for row in rows)


async def test_what_was_decided_is_carried_out_by_whoever_goes_on(store: Store) -> None:
    """A curator that dies between deciding and merging leaves its decision, not its place."""
    ids = await add(store, ["Kim paints.", "kim paints"], [like(11)] * 2)
    run = await start(store)
    with patch.object(Batch, "_apply", side_effect=ComparisonFailedError("killed")):
        async with comparing() as comparer:
            with pytest.raises(BatchFailedError):
                await _all_of_it(store, comparer)
    kept = await store.sql.fetchval("SELECT merges FROM engram.dedup_task")
    assert json.loads(kept)[0]["members"]
    ended = await finish(store, run["id"])
    assert (ended["state"], ended["merged"]) == ("done", 1)
    assert sorted(await states(store, ids)) == ["active", "merged"]


async def test_a_vector_that_commits_late_is_not_passed_over(
    store: Store, superuser_url: str
) -> None:
    """A seq is drawn before its transaction commits: the watermark waits for it."""
    await add(store, ["Leo sails."], [like(12)])
    [late] = await add(store, ["leo sails"], [like(12)])
    await store.sql.execute("DELETE FROM engram_vec.space_1 WHERE memory_id = $1", late)
    slow = await asyncpg.connect(superuser_url)
    writing = slow.transaction()
    await writing.start()
    await slow.execute(
        "INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding) "
        "SELECT workspace, namespace, memory_id, version, embedding FROM ("
        "SELECT m.workspace, m.namespace, m.id AS memory_id, m.version, v.embedding "
        "FROM engram.memory m, engram_vec.space_1 v WHERE m.id = $1) x", late
    )  # fmt: skip
    await add(store, ["Mia rows."], [like(13)])
    assert (await sweep(store))["merged"] == 0
    await writing.commit()
    await slow.close()
    assert (await sweep(store))["merged"] == 1


async def test_the_daily_sweep_begins_runs_only_where_something_is_new(store: Store) -> None:
    await store.other_workspace()
    await add(store, ["Ned fishes.", "ned fishes"], [like(14)] * 2)
    await begin_due(store.service)
    runs = await store.sql.fetch("SELECT id, workspace FROM engram.dedup_run")
    assert [row["workspace"] for row in runs] == [store.workspace]
    assert (await finish(store, str(runs[0]["id"])))["merged"] == 1
    await begin_due(store.service)
    assert len(await store.sql.fetch("SELECT 1 FROM engram.dedup_run")) == 1
    assert await store.sql.fetchval("SELECT count(*) FROM engram.dedup_task") == 0
