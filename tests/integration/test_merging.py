"""Merging: one transaction for many groups, looked at again under locks, all of it told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from engram.storage import dedup_runs
from engram.storage.connection import about
from engram.storage.merging import Cause, Group, Member
from tests.support.merging import LEASE, Workspace, open_workspace

OLD = "2024-01-01T00:00:00Z"


@pytest.fixture
async def store(database_url: str, superuser_url: str) -> AsyncIterator[Workspace]:
    async with open_workspace(database_url, superuser_url) as opened:
        yield opened


async def test_members_fall_silent_and_the_survivor_carries_what_they_had(
    store: Workspace,
) -> None:
    survivor = await store.add("likes tea", importance=0.2)
    important = await store.add("Likes tea", importance=0.9)
    old = await store.add("LIKES TEA", created_at=OLD, expires_at="2090-01-01T00:00:00Z")
    await store.sql.execute(
        "UPDATE engram.memory SET access_count = 3, last_accessed_at = $2 WHERE id = ANY ($1)",
        *([survivor, old], datetime(2025, 6, 1, tzinfo=UTC)),
    )
    await store.announced()
    await store.merge(survivor, important, old)
    rows = await store.dump()
    assert [rows[one]["state"] for one in (survivor, important, old)] == [
        "active", "merged", "merged",
    ]  # fmt: skip
    assert rows[important]["merged_into"] == rows[old]["merged_into"] == survivor
    carried = rows[survivor]
    assert (carried["importance"], carried["access_count"]) == (0.9, 6)
    assert carried["created_at"] == datetime(2024, 1, 1, tzinfo=UTC)
    assert carried["last_accessed_at"] == datetime(2025, 6, 1, tzinfo=UTC)
    assert carried["expires_at"] is None
    assert (carried["content"], carried["version"]) == ("likes tea", 1)
    assert await store.embedded() == {survivor}
    assert await store.announced() == [
        ("merged", {str(important), str(old)}),
        ("updated", {str(survivor)}),
    ]


async def test_the_ledger_keeps_who_why_and_how_alike(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    run = await store.begin()
    merge_id = await store.merge(a, b, cause=run.cause())
    row = await store.sql.fetchrow("SELECT * FROM engram.merge")
    assert (row["id"], row["run_id"], row["kind"]) == (merge_id, run.id, "near")
    assert (row["actor"], row["reason"], row["rule_version"]) == ("curator", "guard", "1")
    member = await store.sql.fetchrow("SELECT * FROM engram.merge_member")
    assert (member["memory_id"], member["version"]) == (b, 1)
    assert round(member["cosine"], 3) == 0.99
    assert member["evidence"] == '{"kind": "same"}'
    assert "tea" not in str(dict(member)).lower()


async def test_what_changed_since_it_was_compared_is_left_and_said(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    seen = await store.group(a, b)
    await store.patch(b, content="coffee")
    [done] = await store.apply(seen)
    assert (done.merge_id, done.left, done.memory_id) == (None, "changed", b)
    assert (await store.one(b))["state"] == "active"
    assert await store.sql.fetchval("SELECT count(*) FROM engram.merge") == 0


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"user_id": "bob"}, "namespace"),
        ({"namespace": "user:alice", "user_id": "bob"}, "owners"),
        ({"user_id": "alice", "agent_id": "x"}, "owners"),
        ({"user_id": "alice", "pinned": True}, "pinned"),
        ({"user_id": "alice", "metadata": {"city": "Bonn"}}, "metadata"),
        ({"user_id": "alice", "expires_at": "2020-01-01T00:00:00Z"}, "expired"),
    ],
)
async def test_a_group_that_does_not_belong_together_is_left(
    store: Workspace, fields: dict[str, object], left: str
) -> None:
    a = await store.add("tea", user_id="alice", metadata={"city": "Ulm"}, pinned=True)
    b = await store.add("Tea", **fields)
    [done] = await store.apply(await store.group(a, b))
    assert done.left == left
    assert await store.embedded() == {a, b}


async def test_gone_merged_unknown_and_repeated_memories_are_left(store: Workspace) -> None:
    a, b, c = [await store.add(text) for text in ("tea", "Tea", "TEA")]
    seen = await store.group(a, b)
    await store.delete(b)
    unknown = Group(a, 1, (Member(store.id, 1),))
    assert [one.left for one in await store.apply(seen, unknown)] == ["gone", "gone"]
    d = await store.add("tea.")
    one, other = await store.group(a, c), await store.group(c, d)
    nobody, itself = Group(a, 1, ()), await store.group(d, d)
    done = await store.apply(one, other, nobody, itself)
    assert [one.left for one in done] == [None, "taken", "taken", "taken"]
    assert [one.left for one in await store.apply(other)] == ["not_active"]


async def test_a_person_may_merge_what_metadata_keeps_apart(store: Workspace) -> None:
    a = await store.add("tea", metadata={"city": "Ulm", "mood": "good"})
    b = await store.add("Tea", metadata={"city": "Bonn"})
    await store.merge(a, b, cause=Cause(store.id, "key", by_person=True))
    assert (await store.one(a))["metadata"] == '{"city": "Ulm", "mood": "good"}'


async def test_another_workspace_cannot_be_merged(
    store: Workspace, database_url: str, superuser_url: str
) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    seen = await store.group(a, b)
    async with open_workspace(database_url, superuser_url) as other:
        assert [one.left for one in await other.apply(seen)] == ["gone"]
        assert [one.left for one in await other.apply(seen, cause=Cause(store.id, "x"))] == ["gone"]
    assert (await store.one(b))["state"] == "active"


async def test_five_thousand_copies_merge_in_a_bounded_number_of_statements(
    store: Workspace,
) -> None:
    survivor = await store.add("tea")
    await store.sql.execute(
        "INSERT INTO engram.memory SELECT (jsonb_populate_record(m, jsonb_build_object("
        "'id', gen_random_uuid(), 'access_count', 1))).* "
        "FROM engram.memory m, generate_series(1, 5000)"
    )
    copies = [one for one in await store.dump() if one != survivor]
    await store.embed(*copies)
    statements: list[str] = []
    run = await store.begin()
    async with about(store.pool, [store.id]) as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
        group = Group(survivor, 1, tuple(Member(one, 1, 1.0) for one in copies))
        from engram.storage.merging import apply_group

        done = await apply_group(connection, run.cause(), group, datetime.now(UTC))
        await dedup_runs.finish(connection, store.id, run.id)
    assert done.merge_id is not None
    # With a statement for each space, and what the driver asks about types.
    assert len(statements) <= 20
    assert await store.embedded() == {survivor}
    assert (await store.one(survivor))["access_count"] == 5000
    undone = await store.undo_run(run.id)
    assert len(undone.restored) == 5000
    assert (await store.one(survivor))["access_count"] == 0


async def test_a_run_stops_at_its_cap_and_says_so(store: Workspace) -> None:
    ids = [await store.add(f"tea {n}") for n in range(7)]
    run = await store.begin(merge_cap=3)
    groups = [
        await store.group(ids[0], ids[1], ids[2]),
        await store.group(ids[3], ids[4], ids[5]),
        await store.group(ids[3], ids[6]),
    ]
    done = await store.apply(*groups, cause=run.cause())
    assert [one.left for one in done] == [None, "capped", "taken"]
    async with about(store.pool, [store.id]) as connection:
        ended = await dedup_runs.show(connection, store.id, run.id)
    assert (ended.state, ended.merged) == ("capped", 2)
    assert [one.left for one in await store.apply(groups[2], cause=run.cause())] == ["stopped"]


async def test_a_cancelled_run_merges_nothing_more(store: Workspace) -> None:
    a, b = await store.add("tea"), await store.add("Tea")
    run = await store.begin()
    async with about(store.pool, [store.id]) as connection:
        assert await dedup_runs.progress(connection, run, {"pairs": 4}, LEASE)
        assert await dedup_runs.progress(connection, run, {"pairs": 3, "groups": 1}, LEASE)
        ended = await dedup_runs.cancel(connection, store.id, run.id)
        assert not await dedup_runs.progress(connection, run, {"pairs": 9}, LEASE)
    assert (ended.state, ended.counts) == ("cancelled", {"pairs": 7, "groups": 1})
    group = await store.group(a, b)
    assert [one.left for one in await store.apply(group, cause=run.cause())] == ["stopped"]
    assert (await store.begin()).id != run.id


async def test_a_run_whose_process_is_gone_makes_way_for_the_next(store: Workspace) -> None:
    lost = await store.begin(lease=timedelta(seconds=-1))
    run = await store.begin()
    assert run.id != lost.id
    async with about(store.pool, [store.id]) as connection:
        ended = await dedup_runs.show(connection, store.id, lost.id)
        listed = await dedup_runs.page(connection, store.id, UUID(int=(1 << 128) - 1), 10)
    assert (ended.state, (ended.error or {})["code"]) == ("failed", "run_lost")
    assert [one.id for one in listed] == [run.id, lost.id]
