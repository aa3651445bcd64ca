"""The indexed route beside a small workspace: recall, plans, the exact tail, and fallbacks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from engram.domain.filters import decode_filters
from engram.domain.indexing import Route, choose_route
from engram.storage.connection import about
from engram.storage.indexes import all_indexes, ready_indexes
from engram.storage.queries import statement
from engram.storage.search import Question, arguments_of, candidates_sql
from engram_cli.runtime.postgres import PostgresServer
from engram_curator.indexing import Seen, sweep_indexes
from tests.support import servers
from tests.support.searching import Placed, World, clustered, open_world

DIMENSIONS = 48
LARGE, SMALL = 'user:it\'s "large" {vectors} $1', "global"


@dataclass
class Built:
    """A namespace of 65,000 in two ranges and a short tail, and a workspace of 30 beside it."""

    database_url: str
    workspace: UUID
    small: UUID
    placed: Placed = field(default_factory=Placed)
    placed_small: Placed = field(default_factory=Placed)
    reports: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def built(shared_postgres: PostgresServer) -> Iterator[Built]:
    with asyncio.Runner() as runner:
        database = servers.cloned_database(shared_postgres)
        url = shared_postgres.dsn(runner.run(database.__aenter__()))
        try:
            yield runner.run(_build(url))
        finally:
            runner.run(database.__aexit__(None, None, None))


async def _build(url: str) -> Built:
    async with open_world(url, DIMENSIONS) as world:
        built = Built(url, await world.workspace(), await world.workspace())
        for seed, count in ((1, 45_000), (2, 20_000)):
            await _add(world, built, clustered(count, DIMENSIONS, seed))
            report = await sweep_indexes(world.worker, {world.space: DIMENSIONS}, Seen())
            built.reports.append(report.built)
        await _add(world, built, clustered(300, DIMENSIONS, 3))
        few = clustered(30, DIMENSIONS, 4)
        built.placed_small.ids += await world.add(built.small, SMALL, few)
        built.placed_small.vectors.append(few)
        return built


async def _add(world: World, built: Built, vectors: object) -> None:
    for start in range(0, len(vectors), 5000):
        part = vectors[start : start + 5000]
        built.placed.ids += await world.add(built.workspace, LARGE, part)
        built.placed.vectors.append(part)


@pytest.fixture
async def world(built: Built) -> AsyncIterator[World]:
    async with open_world(built.database_url, DIMENSIONS) as opened:
        yield opened


async def plan(world: World, question: Question) -> tuple[Route, str]:
    query = clustered(1, DIMENSIONS, 9)[0]
    async with about(world.api, [question.workspace]) as connection:
        ready = await ready_indexes(
            connection, question.space, question.workspace, question.namespace
        )
        route = choose_route(question.namespace, ready.rows, ready.ranges)
        await connection.execute(statement("search", "settings"), "128")
        sql = candidates_sql(question, route, ready.predicates, 64)
        rows = await connection.fetch(f"EXPLAIN {sql}", *arguments_of(question, query))
    return route, "\n".join(row[0] for row in rows)


async def test_each_sweep_builds_one_range(built: Built, world: World) -> None:
    assert built.reports == [1, 1]
    stored = await all_indexes(world.worker, world.space)
    assert [(item.state, item.valid) for item in stored] == [("ready", True)] * 2
    # ANALYZE replaces the exact count by its own estimate.
    assert [item.range.rows for item in stored] == pytest.approx([45_000, 20_000], rel=0.02)
    low, high = (item.range for item in stored)
    assert (low.low, low.high) == (0, high.low)


@pytest.mark.parametrize("namespace", [LARGE, None])
async def test_recall_through_the_ranges_is_close_to_an_exact_scan(
    built: Built, world: World, namespace: str | None
) -> None:
    question = Question(built.workspace, namespace, world.space, 10)
    recall, routes = await world.recall(question, clustered(60, DIMENSIONS, 5), built.placed)
    assert routes == {"indexed"}
    assert recall >= 0.98


async def test_a_workspace_of_thirty_beside_it_has_full_recall(built: Built, world: World) -> None:
    question = Question(built.small, SMALL, world.space, 10)
    recall, routes = await world.recall(question, clustered(60, DIMENSIONS, 6), built.placed_small)
    assert (recall, routes) == (1.0, {"exact"})


async def test_the_large_plan_uses_every_range_and_the_btree_for_the_tail(
    built: Built, world: World
) -> None:
    route, text = await plan(world, Question(built.workspace, LARGE, world.space, 10))
    assert len(route.ranges) == 2
    for item in route.ranges:
        assert f"Index Scan using {item.name} " in text
    assert "workspace_namespace_seq_idx" in text
    assert "Seq Scan" not in text


@pytest.mark.parametrize("namespace", [SMALL, None])
async def test_the_small_plan_uses_a_btree_and_no_hnsw(
    built: Built, world: World, namespace: str | None
) -> None:
    route, text = await plan(world, Question(built.small, namespace, world.space, 10))
    assert route.kind == "exact"
    assert "hnsw" not in text
    assert "workspace_namespace_seq_idx" in text or "_pkey" in text
    assert "Seq Scan" not in text


async def test_a_new_row_is_found_at_once_and_a_re_embedded_one_by_its_new_vector_only(
    built: Built, world: World
) -> None:
    question = Question(built.workspace, LARGE, world.space, 1)
    old, new = clustered(2, DIMENSIONS, 77, centres=1)
    old[0], new[0] = 5.0, -5.0
    [added] = await world.add(built.workspace, LARGE, old[None])
    assert (await world.find(question, old)).hits[0].id == added

    [inside] = built.placed.ids[:1]
    before = built.placed.vectors[0][0]
    assert (await world.find(question, before)).hits[0].id == inside
    await world.worker.execute(
        "UPDATE engram.memory SET version = 2 WHERE workspace = $1 AND id = $2",
        *(built.workspace, inside),
    )
    await world.embed(built.workspace, LARGE, [inside], new[None], version=2)
    ten = Question(built.workspace, LARGE, world.space, 10)
    hits = (await world.find(ten, new)).hits
    assert [hit.id for hit in hits].count(inside) == 1
    assert hits[0].id == inside
    assert inside not in {hit.id for hit in (await world.find(ten, before)).hits}


async def test_a_rare_filter_falls_back_to_the_exact_scan_and_fills_the_answer(
    built: Built, world: World
) -> None:
    far = -clustered(12, DIMENSIONS, 8)
    rare = await world.add(built.workspace, LARGE, far, user_id="rare")
    condition = decode_filters({"user_id": "rare"})
    question = Question(built.workspace, LARGE, world.space, 12, condition=condition)
    found = await world.find(question, clustered(1, DIMENSIONS, 9)[0])
    assert {hit.id for hit in found.hits} == set(rare)
    assert found.route == "exact"


async def test_a_missing_index_costs_no_rows_and_is_built_again(built: Built, world: World) -> None:
    stored = await all_indexes(world.worker, world.space)
    lost = max(stored, key=lambda item: item.range.low).range.name
    async with world.worker.acquire() as connection:
        await connection.execute("SET ROLE engram_vec")
        await connection.execute(f"DROP INDEX engram_vec.{lost}")
        await connection.execute("RESET ROLE")
    question = Question(built.workspace, LARGE, world.space, 1)
    target = built.placed.ids[50_000]
    query = built.placed.vectors[10][0]
    assert (await world.find(question, query)).hits[0].id == target
    report = await sweep_indexes(world.worker, {world.space: DIMENSIONS}, Seen())
    assert (report.dropped, report.built) == (1, 1)
    assert (await world.find(question, query)).hits[0].id == target
