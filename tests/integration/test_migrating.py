"""Migrations on a real store: plan, dual-write, backfill, and what is refused."""

from collections.abc import AsyncIterator

import pytest

from tests.support.migrating import asked, backfilled, done, driving, lacking, planned, shown
from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True
    ) as opened:
        yield opened


async def filled(store: Store, count: int, namespace: str = "user:a") -> None:
    items = [{"content": f"{namespace} likes {n} cups of tea", "namespace": namespace}
             for n in range(count)]  # fmt: skip
    for start in range(0, count, 400):
        await store.import_(items[start : start + 400])


async def embedded(store: Store, space: int = 1) -> None:
    async def all_of_them() -> bool:
        assert await lacking(store, space) == 0
        return True

    await eventually(all_of_them, 30, 0.05)


async def test_a_migration_runs_from_plan_to_release(store: Store) -> None:
    await filled(store, 300)
    await filled(store, 200, "user:b")
    await embedded(store)
    async with driving(store):
        plan = await planned(store, "hashing@512")
        assert plan["phase"] == "planned"
        assert plan["plan"]["rows"] == 500
        assert plan["plan"]["blockers"] == []
        assert (await done(store, plan, "start"))["phase"] in ("dual_write", "backfill")
        late = await store.post("written while both are written", namespace="user:a")
        changed = await store.client.patch(
            f"/v1/memories/{late['id']}", json={"content": "changed meanwhile"}
        )
        assert changed.status_code == 200
        found = await backfilled(store, plan)
        await embedded(store, 2)
        assert found["namespaces"] == {"complete": 2}
        assert (await done(store, plan, "verify"))["phase"] == "verified"
        assert (await done(store, plan, "cutover"))["phase"] == "cut_over"
        assert (await done(store, plan, "rollback"))["phase"] == "verified"
        assert (await done(store, plan, "cutover"))["phase"] == "cut_over"
        assert (await done(store, plan, "release"))["phase"] == "released"
    tables = await store.sql.fetch("SELECT key FROM engram.space")
    assert [row["key"] for row in tables] == ["hashing:ngram-1@512"]
    actions = await store.sql.fetch(
        "SELECT DISTINCT action FROM engram.audit WHERE action LIKE 'migration.%'"
    )
    assert {row["action"] for row in actions} >= {
        "migration.planned", "migration.dual_write", "migration.backfill", "migration.verified",
        "migration.cut_over", "migration.rolled_back", "migration.released",
    }  # fmt: skip


async def test_an_abort_drops_the_new_space_and_leaves_the_old_one_read(store: Store) -> None:
    await filled(store, 50)
    async with driving(store):
        plan = await planned(store, "hashing@512")
        await done(store, plan, "start")
        assert (await done(store, plan, "abort"))["phase"] == "aborted"
        again = await asked(store, plan, "abort")
        assert again["phase"] == "aborted"
    assert await store.sql.fetchval("SELECT count(*) FROM engram.space") == 1
    await embedded(store)


async def test_nothing_is_queued_while_the_backfill_is_paused(store: Store) -> None:
    await filled(store, 100)
    await embedded(store)
    async with driving(store):
        plan = await planned(store, "hashing@512")
        await done(store, plan, "start")
        await asked(store, plan, "pause")

        async def halted() -> bool:
            return (await shown(store, plan))["paused"]

        await eventually(halted)
        again = await asked(store, plan, "pause")
        assert again["paused"]
        late = await store.post("written while paused")
        await asked(store, plan, "resume")
        await backfilled(store, plan)
    assert await store.sql.fetchval(
        "SELECT count(*) FROM engram_vec.space_2 WHERE memory_id = $1", late["id"]
    )
