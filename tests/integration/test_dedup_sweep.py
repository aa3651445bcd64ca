"""The dedup sweep on a real store: what it merges, leaves, proposes; dirt, caps, dry runs, undo."""

from collections.abc import AsyncIterator

import pytest

from tests.support.store import Store, open_store
from tests.support.sweeping import add, dump, embed, finish, like, start, states, sweep

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
