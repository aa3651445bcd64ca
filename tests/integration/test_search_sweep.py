"""The index duty: what it builds, merges, drops and repairs, with sizes small enough to watch."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from engram.domain import indexing
from engram.storage import bulk
from engram.storage.indexes import all_indexes, ready_indexes
from engram.storage.search import Question
from engram_curator import indexing as duty
from engram_curator.indexing import IndexReport, Seen, sweep_indexes
from tests.support.searching import Placed, World, clustered, open_world
from tests.support.wait import eventually

DIMENSIONS = 16
TAIL = 200


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "TAIL_ROWS", TAIL)
    for module in (indexing, duty):
        monkeypatch.setattr(module, "EXACT_ROWS", 50)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url, DIMENSIONS) as opened:
        yield opened


async def sweep(world: World, grace_s: float = 3600.0) -> IndexReport:
    return await sweep_indexes(world.worker, {world.space: DIMENSIONS}, Seen(), grace_s=grace_s)


async def states(world: World) -> list[str]:
    return [item.state for item in await all_indexes(world.worker, world.space)]


async def index_names(world: World) -> set[str]:
    rows = await world.worker.fetch(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'engram_vec'"
    )
    return {row["indexname"] for row in rows if "hnsw" in row["indexname"]}


async def test_ranges_stay_at_most_four_and_cover_all_without_a_gap(world: World) -> None:
    workspace, placed = await world.workspace(), Placed()
    for seed in range(9):
        vectors = clustered(TAIL + 1, DIMENSIONS, seed)
        placed.ids += await world.add(workspace, "global", vectors)
        placed.vectors.append(vectors)
        await sweep(world)
        ready = await ready_indexes(world.worker, world.space, workspace, "global")
        ranges = sorted(ready.ranges, key=lambda item: item.low)
        assert len(ranges) <= indexing.MAX_RANGES
        assert [r.low for r in ranges] == [0, *(r.high for r in ranges[:-1])]
        question = Question(workspace, "global", world.space, 10)
        recall, _ = await world.recall(question, clustered(10, DIMENSIONS, 99), placed)
        assert recall >= 0.98


async def test_a_replaced_index_stays_until_the_grace_period_is_over(world: World) -> None:
    workspace = await world.workspace()
    for seed in range(2):
        await world.add(workspace, "global", clustered(TAIL + 1, DIMENSIONS, seed))
        await sweep(world)
    assert sorted(await states(world)) == ["ready", "retiring"]
    await sweep(world)
    assert len(await index_names(world)) == 2
    report = await sweep(world, grace_s=0.0)
    assert report.dropped == 1
    assert (await states(world), len(await index_names(world))) == (["ready"], 1)


async def test_what_a_crash_left_half_built_is_dropped_and_built_again(world: World) -> None:
    workspace = await world.workspace()
    await world.add(workspace, "global", clustered(TAIL + 1, DIMENSIONS, 1))
    await sweep(world)
    # As a killed builder leaves it: an index that is not valid, in a row that says "building".
    await world.worker.execute("UPDATE engram.vector_index SET state = 'building'")
    [left] = await index_names(world)
    report = await sweep(world)
    assert (report.dropped, report.built) == (1, 1)
    assert left not in await index_names(world)
    assert await states(world) == ["ready"]


async def test_a_builder_that_is_cancelled_leaves_no_lock_and_no_lasting_wreck(
    world: World,
) -> None:
    workspace = await world.workspace()
    await world.add(workspace, "global", clustered(TAIL + 1, DIMENSIONS, 1))
    async with world.worker.acquire() as holder, holder.transaction():
        # A build waits for every older writer of the table, and this one does not end.
        await holder.execute(
            f"DELETE FROM engram_vec.space_{world.space} WHERE workspace = $1 AND seq < 0",
            workspace,
        )
        build = asyncio.create_task(sweep(world))
        await eventually(lambda: _is_building(world), timeout_s=10)
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build
    assert (await sweep(world)).built == 1
    assert await states(world) == ["ready"]


async def _is_building(world: World) -> bool:
    return bool(await world.api.fetchval("SELECT count(*) FROM engram.vector_index"))


async def test_only_one_of_two_builders_works(world: World) -> None:
    workspace = await world.workspace()
    await world.add(workspace, "global", clustered(TAIL + 1, DIMENSIONS, 1))
    reports = await asyncio.gather(sweep(world), sweep(world))
    assert sorted((r.built, r.busy) for r in reports) == [(0, 1), (1, 0)]


async def test_row_counts_follow_the_vector_table(world: World) -> None:
    workspace = await world.workspace()
    await world.add(workspace, "a", clustered(30, DIMENSIONS, 1))
    await world.add(workspace, "b", clustered(70, DIMENSIONS, 2))
    await sweep(world)
    assert await _row_counts(world, workspace) == {"a": 30, "b": 70}
    await world.worker.execute(f"DELETE FROM engram_vec.space_{world.space} WHERE namespace = 'b'")
    await sweep(world)
    assert await _row_counts(world, workspace) == {"a": 30, "b": 0}


async def _row_counts(world: World, workspace: UUID) -> dict[str, int]:
    rows = await world.worker.fetch(
        "SELECT name, row_count FROM engram.namespace WHERE workspace = $1", workspace
    )
    return {row["name"]: row["row_count"] for row in rows}


async def test_a_namespace_that_shrank_loses_its_index(world: World) -> None:
    workspace = await world.workspace()
    await world.add(workspace, "global", clustered(TAIL + 1, DIMENSIONS, 1))
    await sweep(world)
    await world.worker.execute(
        f"DELETE FROM engram_vec.space_{world.space} WHERE seq > 40 AND workspace = $1", workspace
    )
    report = await sweep(world)
    assert (report.retired, await states(world)) == (1, ["retiring"])
    await sweep(world, grace_s=0.0)
    assert await index_names(world) == set()


async def test_two_equal_namespaces_get_indexes_of_their_own_and_a_dominant_one_shares(
    world: World,
) -> None:
    even, uneven = await world.workspace(), await world.workspace()
    for workspace, namespace, count in (
        *((even, "a", 400), (even, "b", 400), (even, "c", 100)),
        *((uneven, "a", 600), (uneven, "b", 60)),
    ):
        await world.add(workspace, namespace, clustered(count, DIMENSIONS, 3))
    await sweep(world)
    scopes = {
        (item.range.scope.workspace, item.range.scope.namespace)
        for item in await all_indexes(world.worker, world.space)
    }
    assert scopes == {(even, None), (even, "a"), (even, "b"), (uneven, None)}
    query = clustered(1, DIMENSIONS, 5)[0]
    routes = {
        (workspace, namespace): (
            await world.find(Question(workspace, namespace, world.space, 10), query)
        ).route
        for workspace, namespace in ((even, "a"), (even, "c"), (uneven, "a"), (uneven, "b"))
    }
    assert routes == {
        (even, "a"): "indexed",
        (even, "c"): "exact",
        (uneven, "a"): "indexed",
        (uneven, "b"): "exact",
    }


async def test_an_unchanged_table_is_not_counted_again(world: World) -> None:
    workspace = await world.workspace()
    await world.add(workspace, "global", clustered(60, DIMENSIONS, 1))
    seen, spaces = Seen(), {world.space: DIMENSIONS}

    async def settled() -> bool:
        # Statistics of a write arrive within a second or so.
        seen.count_after_s.clear()
        return (await sweep_indexes(world.worker, spaces, seen)).counted == 0

    await eventually(settled, timeout_s=20)
    assert seen.changes


async def test_an_index_waits_for_the_end_of_a_load(world: World) -> None:
    workspace = await world.workspace()
    ids = await world.add(workspace, "global", clustered(TAIL + 1, DIMENSIONS, 1))
    seen, spaces = Seen(), {world.space: DIMENSIONS}
    await bulk.add(world.worker, world.space, [(workspace, ids[:1])])
    assert (await sweep_indexes(world.worker, spaces, seen)).built == 0
    await world.worker.execute("DELETE FROM engram.bulk_batch")
    seen.count_after_s.clear()
    assert (await sweep_indexes(world.worker, spaces, seen)).built == 1
