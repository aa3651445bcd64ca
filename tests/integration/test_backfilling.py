"""The backfill: nothing embedded twice, nothing that hangs it, and no space waits for the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from engram.serving.process import background
from engram.storage import backfilling, migrating, migration_leases
from engram.storage.migrating import Migration
from engram_cli.bench.fake_provider import FakeProvider
from engram_curator.reconcile import reconcile
from engram_migrator.backfill import Backfill
from engram_migrator.driver import _LEASE, Driver
from tests.support.migrating import asked, backfilled, done, driving, lacking, planned, shown
from tests.support.store import Store, client_of, embedding_lanes, open_store
from tests.support.wait import eventually

DIMENSIONS = 32
TARGET = f"openai:local-model@{DIMENSIONS}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    """The provider of the new space."""
    async with FakeProvider(DIMENSIONS, poison="refuse me") as server:
        yield server


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, fake: FakeProvider
) -> AsyncIterator[Store]:
    """A store on a local model; tests start embedders when they want one."""
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, openai_base_url=fake.url
    ) as opened:
        yield opened


async def filled(store: Store, count: int, namespace: str = "user:a") -> None:
    items = [{"content": f"{namespace} likes {n} teas", "namespace": namespace}
             for n in range(count)]  # fmt: skip
    await store.import_(items)


async def settled(store: Store, space: int) -> None:
    async def nothing_lacks() -> bool:
        assert await lacking(store, space) == 0
        return True

    await eventually(nothing_lacks, 30, 0.05)


async def queued(store: Store, space: int = 2) -> list[UUID]:
    rows = await store.sql.fetch(
        "SELECT unnest(ids) AS id FROM engram.bulk_batch WHERE space = $1", space
    )
    return [row["id"] for row in rows]


async def backfilling_one(store: Store, **fields: Any) -> tuple[dict[str, Any], Migration]:
    """Start a migration with nobody driving it, and bring it into its backfill."""
    plan = await planned(store, TARGET, measure=False, **fields)
    await asked(store, plan, "start")
    driver = Driver(store.service)
    async with background(driver.run()):

        async def backfills() -> bool:
            return (await shown(store, plan))["phase"] == "backfill"

        await eventually(backfills)
    await store.sql.execute("DELETE FROM engram.bulk_batch")
    await store.sql.execute("UPDATE engram.migration_namespace SET hint = NULL, state = 'waiting'")
    async with store.service.pool.acquire() as connection:
        return plan, await migrating.read(connection, UUID(plan["id"]))


async def test_what_is_queued_embedded_or_failing_is_never_queued_again(store: Store) -> None:
    await filled(store, 40)
    _, migration = await backfilling_one(store)
    ids = [row["id"] for row in await store.sql.fetch("SELECT id FROM engram.memory ORDER BY id")]
    await store.sql.execute(
        "INSERT INTO engram.embedding_failure (workspace, memory_id, space, version, attempts, "
        "class, error, next_attempt) VALUES ($1, $2, 2, 1, 1, 'server', 'down', now())",
        *(store.workspace, ids[0]),
    )
    await store.sql.execute(
        "INSERT INTO engram_vec.space_2 (workspace, namespace, memory_id, version, embedding) "
        f"VALUES ($1, 'user:a', $2, 1, array_fill(1, ARRAY[{DIMENSIONS}])::halfvec)",
        *(store.workspace, ids[1]),
    )
    await store.sql.execute(
        "INSERT INTO engram.bulk_batch (space, workspace, ids) VALUES (2, $1, $2)",
        *(store.workspace, [ids[2]]),
    )
    backfill = Backfill(store.service, migration.id)
    await backfill.step(migration)
    assert sorted(await queued(store)) == ids[2:]
    # Whoever goes on after a crash, even from the very beginning, queues nothing twice.
    await store.sql.execute("UPDATE engram.migration_namespace SET hint = NULL")
    await asyncio.gather(*(Backfill(store.service, migration.id).step(migration) for _ in range(4)))
    assert sorted(await queued(store)) == ids[2:]


async def test_a_worklist_page_costs_the_page_and_says_where_it_ended(store: Store) -> None:
    await filled(store, 30)
    _, migration = await backfilling_one(store)
    async with store.service.pool.acquire() as connection:
        after, seen = backfilling.START, []
        while True:
            page = await backfilling.walk(
                connection, migration, store.workspace, "user:a", after, 7
            )
            seen += page.missing
            if page.last is None or page.scanned < 7:
                break
            after = page.last
    assert len(seen) == len(set(seen)) == 30
    assert seen == sorted(seen)


async def test_a_memory_that_is_still_on_its_way_is_left_to_the_live_lane(store: Store) -> None:
    _, migration = await backfilling_one(store)
    late = await store.post("written since dual-write began", namespace="user:b")
    backfill = Backfill(store.service, migration.id)
    await backfill.count(migration)
    await backfill.step(migration)
    assert await queued(store) == []
    await store.sql.execute(
        "UPDATE engram.memory SET versioned_at = now() - interval '1 minute' WHERE id = $1",
        UUID(late["id"]),
    )
    await backfill.count(migration)
    await backfill.step(migration)
    assert await queued(store) == [UUID(late["id"])]


async def test_most_read_namespaces_come_first_and_the_smallest_if_so_wished(store: Store) -> None:
    await filled(store, 20, "user:large")
    await filled(store, 10, "user:read")
    await filled(store, 2, "user:small")
    await store.sql.execute(
        "UPDATE engram.memory SET access_count = 9 WHERE namespace = 'user:read'"
    )
    plan, migration = await backfilling_one(store)
    backfill = Backfill(store.service, migration.id)
    await backfill.count(migration)

    async def order() -> list[str]:
        async with store.service.pool.acquire() as connection, connection.transaction():
            current = await migrating.read(connection, migration.id)
            found = await backfilling.next_namespaces(connection, current, 10)
        return [name for _, name, _ in found]

    assert (await order())[0] == "user:read"
    changed = await store.client.patch(f"/v1/migrations/{plan['id']}", json={"order": "smallest"})
    assert changed.status_code == 200
    assert await order() == ["user:small", "user:read", "user:large"]


async def test_one_migrator_drives_and_another_takes_over_when_its_lease_has_ended(
    store: Store,
) -> None:
    _, migration = await backfilling_one(store)
    one, two = uuid4(), uuid4()
    async with store.service.pool.acquire() as connection:
        assert await migration_leases.claim(connection, one, _LEASE) == migration.id
        assert await migration_leases.claim(connection, two, _LEASE) is None
        assert await migration_leases.extend(connection, migration.id, one, _LEASE)
        await store.sql.execute("UPDATE engram.migration SET leased_until = now()")
        assert await migration_leases.claim(connection, two, _LEASE) == migration.id
        assert not await migration_leases.extend(connection, migration.id, one, _LEASE)
        await migration_leases.give_back(connection, migration.id, one)
        assert await migration_leases.extend(connection, migration.id, two, _LEASE)


async def test_killed_twenty_times_it_embeds_each_memory_once(
    store: Store, fake: FakeProvider
) -> None:
    await filled(store, 500)
    async with embedding_lanes(store.service):
        await settled(store, 1)
        plan = await planned(store, TARGET, measure=False)
        await asked(store, plan, "start")
        for kill in range(20):
            driver = asyncio.create_task(Driver(store.service).run())
            calls = fake.requests.calls

            async def moved(seen: int = calls) -> bool:
                assert fake.requests.calls > seen
                return True

            # It is killed wherever it happens to be by then.
            with contextlib.suppress(AssertionError):
                await eventually(moved, 0.15, 0.01)
            driver.cancel()
            await asyncio.gather(driver, return_exceptions=True)
            if kill % 5 == 0:
                await store.sql.execute("UPDATE engram.migration_namespace SET hint = NULL")
        async with driving(store):
            await backfilled(store, plan)
    assert await lacking(store, 2) == 0
    # Besides the probe: three texts at the start of each of the attempts that were cut short.
    assert fake.requests.texts - 3 * 20 <= 1.02 * 500


async def test_a_provider_that_is_down_delays_nothing_in_the_other_space(
    store: Store, fake: FakeProvider
) -> None:
    await filled(store, 100)
    async with embedding_lanes(store.service), driving(store):
        plan = await planned(store, TARGET)
        await done(store, plan, "start")
        fake.script("status", status=503, times=None)
        late = await store.post("written while the new provider is down")
        await settled(store, 1)
        found = await store.client.post("/v1/memories/search", json={"query": late["content"]})
        assert found.json()["results"][0]["memory"]["id"] == late["id"]
        assert not found.json()["degraded"]
        fake.clear()
        await backfilled(store, plan)
        await settled(store, 2)


async def test_a_text_that_is_refused_for_good_is_listed_and_does_not_hang_the_backfill(
    store: Store,
) -> None:
    await filled(store, 20)
    bad = await store.post("please refuse me", namespace="user:a")
    async with embedding_lanes(store.service), driving(store):
        plan = await planned(store, TARGET, measure=False)
        await done(store, plan, "start")
        found = await backfilled(store, plan)
    assert found["progress"]["dead"] == 1
    assert found["progress"]["missing"] == 1
    listed = await store.client.get(f"/v1/migrations/{plan['id']}/mismatches")
    assert [item["memory_id"] for item in listed.json()["items"]] == [bad["id"]]
    assert listed.json()["next_cursor"] is None


async def test_what_is_lost_is_found_again_after_a_namespace_was_complete(store: Store) -> None:
    await filled(store, 20)
    async with embedding_lanes(store.service), driving(store):
        plan = await planned(store, TARGET, measure=False)
        await done(store, plan, "start")
        await backfilled(store, plan)
        await store.sql.execute(
            "DELETE FROM engram_vec.space_2 WHERE memory_id IN "
            "(SELECT memory_id FROM engram_vec.space_2 LIMIT 5)"
        )
        await settled(store, 2)


async def test_reconcile_leaves_what_is_missing_to_the_backfill(store: Store) -> None:
    await filled(store, 10)
    await store.sql.execute("UPDATE engram.memory SET versioned_at = now() - interval '1 hour'")
    await backfilling_one(store, order="smallest")
    await reconcile(store.service)
    due = await store.sql.fetch("SELECT DISTINCT space FROM engram.embedding_failure")
    assert [row["space"] for row in due] == [1]


async def test_only_the_chosen_workspaces_reach_the_new_space(store: Store) -> None:
    other, key = await store.other_workspace("theirs")
    await filled(store, 10)
    client = client_of(store.app, key)
    await client.post("/v1/memories", json={"content": "of the other workspace"})
    async with embedding_lanes(store.service), driving(store):
        plan = await planned(store, TARGET, workspaces=["default"], measure=False)
        assert plan["plan"]["rows"] == 10
        await done(store, plan, "start")
        await backfilled(store, plan)
        await client.post("/v1/memories", json={"content": "written since"})
        mine = await store.post("written since, here")
        await settled(store, 1)

        async def is_there() -> int:
            return int(
                await store.sql.fetchval(
                    "SELECT count(*) FROM engram_vec.space_2 WHERE memory_id = $1", UUID(mine["id"])
                )
            )

        await eventually(is_there)
        await reconcile(store.service)
    owners = await store.sql.fetch("SELECT DISTINCT workspace FROM engram_vec.space_2")
    assert [row["workspace"] for row in owners] == [store.workspace]
    shown_of = (await client.get("/v1/workspace")).json()["vectors"]
    assert list(shown_of) == ["hashing:ngram-1@256"]
    waiting = await store.sql.fetchval(
        "SELECT count(*) FROM engram.embedding_failure WHERE workspace = $1 AND space = 2", other
    )
    assert waiting == 0
    await client.aclose()
