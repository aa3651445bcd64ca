"""The exact route: everything that matches is found, once, and nothing else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pytest

from engram.domain.filters import decode_filters
from engram.storage.connection import about
from engram.storage.search import Question, by_vector, by_words, similar_ids
from tests.support.searching import Placed, World, clustered, open_world

DIMENSIONS = 32


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url, DIMENSIONS) as opened:
        yield opened


@pytest.fixture
async def workspace(world: World) -> UUID:
    return await world.workspace()


def near(query: np.ndarray, distance: float, count: int = 1) -> np.ndarray:
    """Vectors a little further from the query each."""
    side = np.zeros_like(query)
    side[np.argmin(np.abs(query))] = 1.0
    made = np.array([query + (distance + 0.001 * i) * side for i in range(count)])
    return (made / np.linalg.norm(made, axis=1)[:, None]).astype(np.float32)


async def test_five_thousand_rows_are_searched_with_full_recall(
    world: World, workspace: UUID
) -> None:
    vectors = clustered(5000, DIMENSIONS, 1)
    placed = Placed(await world.add(workspace, "global", vectors), [vectors])
    question = Question(workspace, "global", world.space, 10)
    recall, routes = await world.recall(question, clustered(25, DIMENSIONS, 2), placed)
    assert (recall, routes) == (1.0, {"exact"})


async def test_scores_are_cosine_similarities(world: World, workspace: UUID) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    same, opposite = await world.add(workspace, "global", np.array([query, -query]))
    found = await world.find(Question(workspace, "global", world.space, 10), query)
    assert [(hit.id, round(hit.score, 3)) for hit in found.hits] == [(same, 1.0), (opposite, -1.0)]
    assert all(-1 <= hit.score <= 1 for hit in found.hits)


async def test_five_thousand_copies_do_not_hide_ten_other_memories(
    world: World, workspace: UUID
) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    copies = await world.add(
        workspace, "global", np.repeat(near(query, 0.01), 5000, axis=0), contents=["same"] * 5000
    )
    others = await world.add(workspace, "global", near(query, 0.3, 12))
    question = Question(workspace, "global", world.space, 10)
    found = await world.find(question, query)
    assert [hit.id for hit in found.hits][1:] == others[:9]
    assert found.hits[0].id in copies
    async with about(world.api, [workspace]) as connection:
        similar = await similar_ids(connection, question, found.hits)
    assert len(similar[found.hits[0].id]) == 100
    assert set(similar[found.hits[0].id]) < set(copies) - {found.hits[0].id}
    assert similar[others[0]] == []


async def test_texts_that_only_look_alike_are_both_shown(world: World, workspace: UUID) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    await world.add(workspace, "global", np.array([query, query]), contents=["10 Mb/s", "10 MB/s"])
    found = await world.find(Question(workspace, "global", world.space, 10), query)
    assert len(found.hits) == 2


@pytest.mark.parametrize(
    "filters",
    [
        {"user_id": "alice"},
        {"metadata.source": "crm"},
        {"categories": {"contains": "work"}},
        {"created_at": {"lt": "2020-01-01T00:00:00Z"}},
        {"AND": [{"user_id": "alice"}, {"NOT": [{"metadata.source": "web"}]}]},
    ],
)
async def test_a_filter_that_one_in_a_thousand_passes_still_fills_the_answer(
    world: World, workspace: UUID, filters: dict[str, object]
) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    await world.add(
        workspace, "global", near(query, 0.0, 4000), user_id="bob", metadata={"source": "web"}
    )
    wanted = await world.add(
        workspace,
        "global",
        near(-query, 0.0, 4),
        user_id="alice",
        metadata={"source": "crm"},
        categories=["work"],
        created_at=datetime(2019, 1, 1, tzinfo=UTC),
    )
    question = Question(workspace, "global", world.space, 10, condition=decode_filters(filters))
    found = await world.find(question, query)
    assert {hit.id for hit in found.hits} == set(wanted)


async def test_the_least_score_cuts_and_stops_the_search(world: World, workspace: UUID) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    close = await world.add(workspace, "global", near(query, 0.1, 3))
    await world.add(workspace, "global", near(query, 3.0, 500))
    found = await world.find(Question(workspace, "global", world.space, 10, min_score=0.9), query)
    assert [hit.id for hit in found.hits] == close


async def test_what_is_expired_or_not_active_is_not_found(world: World, workspace: UUID) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    now = datetime.now(UTC)
    await world.add(workspace, "global", near(query, 0.0, 70), expires_at=now - timedelta(days=1))
    for state in ("archived", "merged", "superseded", "staged"):
        await world.add(workspace, "global", near(query, 0.0, 20), state=state)
    later = await world.add(
        workspace, "global", near(query, 0.5), expires_at=now + timedelta(days=1)
    )
    found = await world.find(Question(workspace, "global", world.space, 10), query)
    assert [hit.id for hit in found.hits] == later


async def test_a_vector_of_an_older_text_never_answers(world: World, workspace: UUID) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    [changed] = await world.add(workspace, "global", near(query, 0.0))
    await world.worker.execute(
        "UPDATE engram.memory SET version = 2 WHERE workspace = $1 AND id = $2", workspace, changed
    )
    question = Question(workspace, "global", world.space, 10)
    assert (await world.find(question, query)).hits == []
    await world.embed(workspace, "global", [changed], near(-query, 0.0), version=2)
    found = await world.find(question, query)
    assert [(hit.id, round(hit.score, 2)) for hit in found.hits] == [(changed, -1.0)]


async def test_without_a_namespace_the_whole_workspace_is_searched(
    world: World, workspace: UUID
) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    here = await world.add(workspace, "user:a", near(query, 0.1))
    there = await world.add(workspace, "user:b", near(query, 0.2))
    everywhere = await world.find(Question(workspace, None, world.space, 10), query)
    assert [hit.id for hit in everywhere.hits] == here + there
    one = await world.find(Question(workspace, "user:b", world.space, 10), query)
    assert [hit.id for hit in one.hits] == there


@pytest.mark.parametrize("namespace", ["global", None, "user:x' OR true --", "{vectors}$1"])
async def test_another_workspaces_rows_are_never_found(
    world: World, workspace: UUID, namespace: str | None
) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    await world.add(workspace, "global", near(query, 0.0, 5))
    stranger = await world.workspace()
    found = await world.find(Question(stranger, namespace, world.space, 10), query)
    assert found.hits == []
    # Not even when the question names a workspace the transaction is not about.
    async with about(world.api, [stranger]) as connection:
        question = Question(workspace, "global", world.space, 10)
        assert (await by_vector(connection, question, query)).hits == []
        assert (await by_words(connection, question, "'memory'")).hits == []


async def test_an_unknown_namespace_is_empty(world: World, workspace: UUID) -> None:
    query = clustered(1, DIMENSIONS, 1)[0]
    found = await world.find(Question(workspace, str(uuid4()), world.space, 10), query)
    assert (found.hits, found.route) == ([], "exact")
