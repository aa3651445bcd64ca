"""Merge and undo beside changes: two sessions in a set order, each seen to wait for the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import numpy as np
import pytest

from engram.errors import ConflictError
from engram.storage import changing, dedup_runs, merging, undoing, vectors
from engram.storage.connection import Connection, about, open_pool
from engram.storage.contention import until_won
from engram.storage.merging import Cause
from engram.storage.vectors import Text
from tests.support.merging import LEASE, Workspace, open_workspace
from tests.support.wait import eventually

ONE = np.ones((1, 256), np.float32)


@pytest.fixture
async def store(database_url: str, superuser_url: str) -> AsyncIterator[Workspace]:
    async with open_workspace(database_url, superuser_url) as opened:
        yield opened


@contextlib.asynccontextmanager
async def in_flight(store: Workspace) -> AsyncIterator[Connection]:
    """Hold a transaction open while inside, and commit it at the end."""
    async with about(store.pool, [store.id]) as connection:
        yield connection


async def waits(store: Workspace, work: "asyncio.Task[object]") -> None:
    """Wait until one session waits for a lock."""

    async def blocked() -> bool:
        assert not work.done(), work
        return bool(
            await store.sql.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()"
            )
        )

    await eventually(blocked, 10, 0.01)


async def test_a_merge_that_waits_for_a_delete_leaves_the_group(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    group = await store.group(a, b)
    async with in_flight(store) as connection:
        await changing.delete_memory(
            connection, store.id, b, if_version=None, actor="x", now=datetime.now(UTC)
        )
        merge = asyncio.create_task(store.apply(group))
        await waits(store, merge)
    assert [(one.left, one.memory_id) for one in await merge] == [("gone", b)]
    assert (await store.one(b))["state"] == "deleted"
    assert await store.embedded() == {a}


async def test_a_delete_of_the_survivor_that_waits_for_a_merge_takes_its_members(
    store: Workspace,
) -> None:
    low, survivor, high = [await store.add(text) for text in ("tea", "Tea", "TEA")]
    group = await store.group(survivor, low, high)
    async with in_flight(store) as connection:
        [done] = await merging.apply_groups(
            connection, Cause(store.id, "x"), [group], datetime.now(UTC)
        )
        delete = asyncio.create_task(store.delete(survivor))
        await waits(store, delete)
    assert done.merge_id
    assert await delete == 3
    assert {row["state"] for row in (await store.dump()).values()} == {"deleted"}
    assert await store.embedded() == set()


async def test_a_delete_of_a_member_that_waits_for_a_merge_leaves_the_survivor(
    store: Workspace,
) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    group = await store.group(a, b)
    async with in_flight(store) as connection:
        await merging.apply_groups(connection, Cause(store.id, "x"), [group], datetime.now(UTC))
        delete = asyncio.create_task(store.delete(b))
        await waits(store, delete)
    assert await delete == 1
    rows = await store.dump()
    assert (rows[a]["state"], rows[b]["state"]) == ("active", "deleted")


async def test_a_merge_that_waits_for_an_edit_leaves_the_group(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    group = await store.group(a, b)
    async with in_flight(store) as connection:
        await changing.change_memory(
            connection, store.id, a, {"content": "coffee"}, if_version=None, actor="x",
            now=datetime.now(UTC),
        )  # fmt: skip
        merge = asyncio.create_task(store.apply(group))
        await waits(store, merge)
    assert [(one.left, one.memory_id) for one in await merge] == [("changed", a)]


async def test_metadata_that_comes_to_disagree_in_between_is_seen(store: Workspace) -> None:
    a = await store.add("tea", metadata={"city": "Ulm"})
    b = await store.add("Tea", metadata={"city": "Ulm"})
    group = await store.group(a, b)
    async with in_flight(store) as connection:
        await changing.change_memory(
            connection, store.id, b, {"metadata": {"city": "Bonn"}}, if_version=None, actor="x",
            now=datetime.now(UTC),
        )  # fmt: skip
        merge = asyncio.create_task(store.apply(group))
        await waits(store, merge)
    assert [one.left for one in await merge] == ["metadata"]


async def test_an_edit_of_a_member_that_waits_for_a_merge_is_refused(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    group = await store.group(a, b)
    async with in_flight(store) as connection:
        await merging.apply_groups(connection, Cause(store.id, "x"), [group], datetime.now(UTC))
        edit = asyncio.create_task(store.patch(b, content="coffee"))
        await waits(store, edit)
    with pytest.raises(ConflictError) as refused:
        await edit
    assert refused.value.code == "merged_memory"


async def test_a_vector_that_waits_for_a_merge_is_not_stored(
    store: Workspace, database_url: str
) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    await store.sql.execute("DELETE FROM engram_vec.space_1")
    group, text = await store.group(a, b), Text(store.id, b, 1, "Tea", 0)
    async with await open_pool(database_url, "engram_worker", size=1, name="w") as workers:

        async def embed() -> object:
            async with workers.acquire() as connection, connection.transaction():
                return await vectors.store_vectors(connection, [text], ONE, 1, datetime.now(UTC))

        async with in_flight(store) as connection:
            await merging.apply_groups(connection, Cause(store.id, "x"), [group], datetime.now(UTC))
            late = asyncio.create_task(embed())
            await waits(store, late)
        assert await late == set()
        assert await store.embedded() == set()


async def test_a_vector_stored_while_the_merge_waits_goes_with_it(
    store: Workspace, database_url: str
) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    await store.sql.execute("DELETE FROM engram_vec.space_1")
    group, text = await store.group(a, b), Text(store.id, b, 1, "Tea", 0)
    async with await open_pool(database_url, "engram_worker", size=1, name="w") as workers:
        async with workers.acquire() as connection, connection.transaction():
            stored = await vectors.store_vectors(connection, [text], ONE, 1, datetime.now(UTC))
            merge = asyncio.create_task(store.apply(group))
            await waits(store, merge)
        assert stored == {(store.id, b)}
        assert [one.left for one in await merge] == [None]
        assert await store.embedded() == set()


async def test_two_merges_of_one_memory_become_one(store: Workspace) -> None:
    a, b, c = [await store.add(text) for text in ("tea", "Tea", "TEA")]
    first, second = await store.group(a, b), await store.group(c, b)
    async with in_flight(store) as connection:
        [done] = await merging.apply_groups(
            connection, Cause(store.id, "x"), [first], datetime.now(UTC)
        )
        other = asyncio.create_task(store.apply(second))
        await waits(store, other)
    assert done.merge_id
    assert [one.left for one in await other] == ["not_active"]


async def test_an_undo_that_waits_for_an_edit_keeps_it(store: Workspace) -> None:
    a, b = await store.add("tea", importance=0.2), await store.add("Tea", importance=0.9)
    merge_id = await store.merge(a, b)
    async with in_flight(store) as connection:
        await changing.change_memory(
            connection, store.id, a, {"content": "green tea", "importance": 0.6}, if_version=None,
            actor="x", now=datetime.now(UTC),
        )  # fmt: skip
        undo = asyncio.create_task(store.undo(merge_id))
        await waits(store, undo)
    assert [one for one, _ in (await undo).restored] == [b]
    row = await store.one(a)
    assert (row["content"], row["version"], row["importance"]) == ("green tea", 2, 0.6)


async def test_an_undo_that_waits_for_a_delete_revives_nothing(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    merge_id = await store.merge(a, b)
    async with in_flight(store) as connection:
        await changing.delete_memory(
            connection, store.id, a, if_version=None, actor="x", now=datetime.now(UTC)
        )
        undo = asyncio.create_task(store.undo(merge_id))
        await waits(store, undo)
    done = await undo
    assert (done.restored, dict(done.kept)) == ([], {"deleted": 1})
    assert {row["state"] for row in (await store.dump()).values()} == {"deleted"}


async def test_two_undos_at_once_are_one(store: Workspace) -> None:
    a, b = await store.add("tea", importance=0.2), await store.add("Tea", importance=0.9)
    before = await store.dump()
    merge_id = await store.merge(a, b)
    async with in_flight(store) as connection:
        first = await undoing.undo(connection, store.id, merge_id, actor="x", now=datetime.now(UTC))
        second = asyncio.create_task(store.undo(merge_id))
        await waits(store, second)
    assert len(first.restored) == 1
    assert (await second).restored == []
    assert await store.dump() == before


async def test_an_undo_sees_that_its_survivor_is_being_absorbed(store: Workspace) -> None:
    a = await store.add("tea", importance=0.9)
    b = await store.add("Tea", importance=0.5)
    c = await store.add("TEA", importance=0.1)
    lower = await store.merge(b, a)
    above = await store.group(c, b)
    async with in_flight(store) as connection:
        await merging.apply_groups(connection, Cause(store.id, "x"), [above], datetime.now(UTC))
        undo = asyncio.create_task(until_won(lambda: store.undo(lower)))
        await waits(store, undo)
    assert [one for one, _ in (await undo).restored] == [a]
    assert (await store.one(c))["importance"] == 0.5


async def test_two_runs_that_begin_at_once_are_one(store: Workspace) -> None:
    async with in_flight(store) as connection:
        first, began = await dedup_runs.begin(
            connection, store.id, actor="x", options={}, rule_version="1", merge_cap=None,
            lease=LEASE,
        )  # fmt: skip
        second = asyncio.create_task(store.begin())
        await waits(store, second)
    assert began
    assert (await second).id == first.id
    assert await store.sql.fetchval("SELECT count(*) FROM engram.dedup_run") == 1


async def test_merges_and_undos_of_the_same_memories_side_by_side_never_stick(
    store: Workspace,
) -> None:
    ids = [await store.add(f"tea {n}") for n in range(6)]
    before = await store.dump()

    async def one(worker: int) -> None:
        for n in range(6):
            chosen = [ids[(worker + n + place) % 6] for place in range(3)]

            async def attempt(memories: list = chosen) -> None:
                [done] = await store.apply(await group_of(memories))
                if done.merge_id:
                    await until_won(lambda: store.undo(done.merge_id))

            await until_won(attempt)

    async def group_of(memories: list) -> merging.Group:
        members = tuple(merging.Member(memory, 1) for memory in memories[1:])
        return merging.Group(memories[0], 1, members)

    async with asyncio.timeout(30):
        await asyncio.gather(*(one(worker) for worker in range(4)))
    assert await store.dump() == before
