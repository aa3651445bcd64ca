"""Undo: byte-equal when nothing happened since, and what is defined when something did."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise, permutations

import asyncpg
import pytest

from engram.errors import ConflictError, NotFoundError
from engram.storage import dedup_runs
from engram.storage.connection import about
from engram.storage.merging import apply_groups
from tests.support.merging import Workspace, open_workspace


@pytest.fixture
async def store(database_url: str, superuser_url: str) -> AsyncIterator[Workspace]:
    async with open_workspace(database_url, superuser_url) as opened:
        yield opened


async def test_an_undo_restores_every_byte_and_calls_for_the_vectors(store: Workspace) -> None:
    ids = [await store.add(f"tea {n}", importance=0.1 + n / 10) for n in range(4)]
    before = await store.dump()
    merge_id = await store.merge(*ids)
    await store.announced()
    done = await store.undo(merge_id)
    assert await store.dump() == before
    assert sorted(done.restored) == [(one, 1) for one in sorted(ids[1:])]
    assert done.merges == [merge_id]
    assert await store.announced() == [
        ("restored", {str(one) for one in ids[1:]}),
        ("updated", {str(ids[0])}),
    ]


async def test_an_undo_that_is_repeated_changes_nothing_and_says_nothing(store: Workspace) -> None:
    ids = [await store.add(f"tea {n}") for n in range(3)]
    merge_id = await store.merge(*ids)
    await store.undo(merge_id)
    await store.patch(ids[1], importance=0.7)
    after = await store.dump()
    await store.announced()
    again = await store.undo(merge_id)
    assert (again.restored, dict(again.kept), again.merges) == ([], {"already": 2}, [])
    assert await store.dump() == after
    assert await store.announced() == []
    entries = await store.sql.fetch("SELECT action, subject, counts FROM engram.audit")
    assert [tuple(entry) for entry in entries] == [
        ("merge.undone", str(merge_id), '{"restored": 2}')
    ]


async def test_one_member_comes_back_and_takes_along_what_only_it_had(store: Workspace) -> None:
    a = await store.add("tea", importance=0.2)
    b = await store.add("Tea", importance=0.9)
    c = await store.add("TEA", importance=0.5)
    merge_id = await store.merge(a, b, c)
    done = await store.undo(merge_id, b)
    assert [one for one, _ in done.restored] == [b]
    rows = await store.dump()
    assert [rows[one]["state"] for one in (a, b, c)] == ["active", "active", "merged"]
    assert rows[a]["importance"] == 0.5
    assert done.merges == []
    assert (await store.undo(merge_id)).merges == [merge_id]
    assert (await store.one(a))["importance"] == 0.2


async def test_unknown_merges_and_members_are_one_answer(store: Workspace) -> None:
    a, b, c = [await store.add(text) for text in ("tea", "Tea", "coffee")]
    merge_id = await store.merge(a, b)
    for merge, member in ((store.id, None), (merge_id, c), (merge_id, a)):
        with pytest.raises(NotFoundError) as refused:
            await store.undo(merge, member)
        assert refused.value.code == "merge_not_found"


async def chain(store: Workspace) -> tuple[list, list]:
    """Merge a into b, b into c and c into d; return memories and merges."""
    memories = [
        await store.add(f"tea {n}", importance=importance)
        for n, importance in enumerate((0.9, 0.5, 0.7, 0.1))
    ]
    await store.sql.execute("UPDATE engram.memory SET access_count = 1 + (importance * 10)::int")
    merges = [await store.merge(into, one) for one, into in pairwise(memories)]
    return memories, merges


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_chain_undone_in_any_order_is_byte_equal(
    store: Workspace, order: Sequence[int]
) -> None:
    memories, merges = await chain(store)
    for merge in reversed(merges):
        await store.undo(merge)
    before = await store.dump()
    assert [one["access_count"] for one in before.values()] == [10, 6, 8, 2]
    merges = [await store.merge(into, one) for one, into in pairwise(memories)]
    assert (await store.one(memories[3]))["access_count"] == 26
    for place in order:
        await store.undo(merges[place])
    assert await store.dump() == before


async def test_what_leaves_the_bottom_of_a_chain_is_given_back_up_to_its_top(
    store: Workspace,
) -> None:
    memories, merges = await chain(store)
    top = memories[3]
    carried = await store.one(top)
    assert (carried["importance"], carried["access_count"]) == (0.9, 26)
    await store.undo(merges[0])
    rows = await store.dump()
    assert [rows[one]["state"] for one in memories] == ["active", "merged", "merged", "active"]
    assert (rows[top]["importance"], rows[top]["access_count"]) == (0.7, 16)
    assert [rows[one]["access_count"] for one in memories] == [10, 6, 14, 16]


async def test_a_survivor_that_absorbed_before_its_member_did_is_given_its_share_too(
    store: Workspace,
) -> None:
    a, b, c, x = [
        await store.add(f"tea {importance}", importance=importance)
        for importance in (0.9, 0.5, 0.1, 0.3)
    ]
    before = await store.dump()
    first = await store.merge(c, x)
    lowest = await store.merge(b, a)
    last = await store.merge(c, b)
    await store.undo(lowest)
    assert (await store.one(c))["importance"] == 0.5
    await store.undo(first)
    await store.undo(last)
    assert await store.dump() == before


async def test_later_edits_stay_and_no_version_falls(store: Workspace) -> None:
    a = await store.add("tea", importance=0.2, metadata={"x": 1})
    b = await store.add("Tea", importance=0.9)
    merge_id = await store.merge(a, b)
    assert await store.patch(a, content="green tea", metadata={"x": 2}) == 2
    await store.patch(b, importance=0.4)
    with pytest.raises(ConflictError):
        await store.patch(b, content="black tea")
    edited = await store.dump()
    await store.undo(merge_id)
    rows = await store.dump()
    assert (rows[a]["content"], rows[a]["version"], rows[a]["metadata"]) == (
        "green tea", 2, '{"x": 2}',
    )  # fmt: skip
    assert rows[a]["updated_at"] == edited[a]["updated_at"]
    assert rows[a]["importance"] == 0.2
    assert (rows[b]["state"], rows[b]["importance"]) == ("active", 0.4)


async def test_importance_that_was_set_since_stays(store: Workspace) -> None:
    a, b = await store.add("tea", importance=0.2), await store.add("Tea", importance=0.9)
    merge_id = await store.merge(a, b)
    await store.patch(a, importance=0.6)
    await store.undo(merge_id)
    assert (await store.one(a))["importance"] == 0.6


async def test_accesses_since_stay_and_only_what_was_brought_goes(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    await store.sql.execute("UPDATE engram.memory SET access_count = 5")
    merge_id = await store.merge(a, b)
    await store.sql.execute("UPDATE engram.memory SET access_count = 17 WHERE id = $1", a)
    await store.undo(merge_id)
    rows = await store.dump()
    assert (rows[a]["access_count"], rows[b]["access_count"]) == (12, 5)


async def test_a_deleted_member_stays_deleted_and_the_survivor_gives_its_share_back(
    store: Workspace,
) -> None:
    a, b = await store.add("tea", importance=0.2), await store.add("Tea", importance=0.9)
    merge_id = await store.merge(a, b)
    assert await store.delete(b) == 1
    tombstone = await store.one(b)
    done = await store.undo(merge_id)
    assert (done.restored, dict(done.kept)) == ([], {"deleted": 1})
    assert await store.one(b) == tombstone
    assert (await store.one(a))["importance"] == 0.2


async def test_what_died_with_its_survivor_stays_dead(store: Workspace) -> None:
    memories, merges = await chain(store)
    assert await store.delete(memories[2]) == 3
    dead = await store.dump()
    for merge in merges:
        assert (await store.undo(merge)).restored == []
    after = await store.dump()
    assert {one: after[one] for one in memories[:3]} == {one: dead[one] for one in memories[:3]}
    assert (after[memories[3]]["importance"], after[memories[3]]["access_count"]) == (0.1, 2)


async def test_an_undone_member_may_be_deleted_without_its_old_survivor(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    merge_id = await store.merge(a, b)
    await store.undo(merge_id)
    assert await store.delete(a) == 1
    assert (await store.one(b))["state"] == "active"
    evidence = await store.sql.fetchval("SELECT evidence FROM engram.merge_member")
    assert evidence == "{}"


async def test_what_merged_again_elsewhere_is_not_touched_by_undoing_the_first(
    store: Workspace,
) -> None:
    a, b, c = [await store.add(text) for text in ("tea", "Tea", "TEA")]
    first = await store.merge(a, b)
    await store.undo(first)
    await store.merge(c, b)
    after = await store.dump()
    assert dict((await store.undo(first)).kept) == {"already": 1}
    assert await store.dump() == after


async def test_a_run_is_undone_as_a_whole_and_only_when_it_has_ended(store: Workspace) -> None:
    ids = [await store.add(f"tea {n}", importance=0.1 + n / 1000) for n in range(120)]
    before = await store.dump()
    run = await store.begin()
    pairs = [await store.group(ids[n], ids[n + 1]) for n in range(0, 120, 2)]
    assert all(one.merge_id for one in await store.apply(*pairs, cause=run.cause()))
    outside = await store.merge(ids[0], ids[2])
    with pytest.raises(ConflictError) as refused:
        await store.undo_run(run.id)
    assert refused.value.code == "run_running"
    async with about(store.pool, [store.id]) as connection:
        await dedup_runs.finish(connection, store.id, run.id)
    assert len((await store.undo_run(run.id)).restored) == 60
    assert len((await store.undo_run(run.id)).restored) == 0
    await store.undo(outside)
    assert await store.dump() == before
    actions = await store.sql.fetch("SELECT action, counts FROM engram.audit ORDER BY id")
    assert [tuple(row) for row in actions][:2] == [
        ("dedup.done", '{"merged": 60}'),
        ("dedup.undone", '{"restored": 60}'),
    ]


async def test_a_run_killed_in_the_middle_leaves_nothing_half_and_is_undone_byte_equal(
    store: Workspace,
) -> None:
    ids = [await store.add(f"tea {n}", importance=0.1 + n / 100) for n in range(8)]
    before = await store.dump()
    run = await store.begin()
    await store.apply(await store.group(ids[0], ids[1]), cause=run.cause())
    half = await store.dump()
    groups = [await store.group(ids[2], ids[3]), await store.group(ids[4], ids[5])]

    async def killed() -> None:
        async with store.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "SELECT set_config('engram.workspaces', $1, true)", "{" + str(store.id) + "}"
            )
            await apply_groups(connection, run.cause(), groups, datetime.now(UTC))
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await store.sql.execute("SELECT pg_terminate_backend($1)", pid)
            await connection.execute("SELECT 1")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await killed()
    assert await store.dump() == half
    assert await store.sql.fetchval("SELECT count(*) FROM engram.merge") == 1
    assert await store.embedded() == set(ids) - {ids[1]}
    await store.sql.execute("UPDATE engram.dedup_run SET lease_until = now() - interval '1 s'")
    again = await store.begin()
    async with about(store.pool, [store.id]) as connection:
        await dedup_runs.finish(connection, store.id, again.id)
    await store.undo_run(run.id)
    assert await store.dump() == before


async def test_an_exact_repeat_is_undone_too(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("tea", external_id="2")
    before = await store.dump()
    await store.sql.execute(
        "WITH g AS (INSERT INTO engram.merge (workspace, id, kind, survivor, actor, created_at) "
        "VALUES ($1, gen_random_uuid(), 'repeat', $2, 'key', now()) RETURNING id), "
        "m AS (UPDATE engram.memory SET state = 'merged', merged_into = $2 WHERE id = $3) "
        "INSERT INTO engram.merge_member (workspace, merge_id, memory_id, version, before) "
        """SELECT $1, id, $3, 1, '{"state": "active"}' FROM g""",
        *(store.id, a, b),
    )
    merge_id = await store.sql.fetchval("SELECT id FROM engram.merge")
    assert (await store.undo(merge_id)).restored == [(b, 1)]
    assert await store.dump() == before
