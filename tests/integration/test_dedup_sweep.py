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
