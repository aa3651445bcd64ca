"""What each filter matches, on Postgres itself."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from engram.domain.filters import decode_filters
from engram.errors import InvalidError
from engram.storage.connection import about
from engram.storage.search import Question, by_vector, similar_ids
from tests.support.searching import World, clustered, open_world

QUERY = clustered(1, 16, 1)[0]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url, 16) as opened:
        yield opened


async def stocked(world: World) -> tuple[UUID, dict[UUID, str]]:
    """Four memories, and their names by id."""
    workspace = await world.workspace()
    rows: dict[str, dict[str, Any]] = {
        "crm": {
            "user_id": "Alice",
            "categories": ["work", "mail"],
            "metadata": {"source": "crm", "n": 5, "tags": ["a", "b"], "none": None, "m": [[1, 2]]},
            "created_at": datetime(2025, 1, 1, tzinfo=UTC),
        },
        "web": {
            "user_id": "bob",
            "categories": ["home"],
            "metadata": {"source": "web", "n": 50, "deep": {"er": True}},
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        },
        "text": {"user_id": "bob", "metadata": {"n": "5"}},
        "bare": {},
    }
    names = {}
    for name, columns in rows.items():
        [made] = await world.add(workspace, "global", QUERY[None], contents=[name], **columns)
        names[made] = name
    return workspace, names


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({"user_id": "bob"}, "text web"),
        ({"user_id": "BOB"}, ""),
        ({"user_id": None}, "bare"),
        ({"user_id": "*"}, "crm text web"),
        ({"user_id": {"ne": "bob"}}, "bare crm"),
        ({"user_id": {"in": ["Alice", "bob"]}}, "crm text web"),
        ({"user_id": {"icontains": "ALI"}}, "crm"),
        ({"user_id": {"contains": "ALI"}}, ""),
        ({"categories": {"contains": "work"}}, "crm"),
        ({"categories": {"in": ["mail", "home"]}}, "crm web"),
        ({"categories": {"ne": "work"}}, "bare text web"),
        ({"metadata.source": "crm"}, "crm"),
        ({"metadata.source": {"ne": "crm"}}, "bare text web"),
        ({"metadata.source": {"in": ["crm", "web", None]}}, "bare crm text web"),
        ({"metadata.source": {"icontains": "CR"}}, "crm"),
        ({"metadata.n": 5}, "crm"),
        ({"metadata.n": {"gt": 5}}, "web"),
        ({"metadata.n": {"gte": 5}}, "crm web"),
        ({"metadata.n": {"lte": "5"}}, "text"),
        ({"metadata.none": None}, "bare crm text web"),
        ({"metadata.source": None}, "bare text"),
        ({"metadata.source": {"ne": None}}, "crm web"),
        ({"metadata.tags": {"contains": "a"}}, "crm"),
        ({"metadata.tags": {"contains": ["a", "b"]}}, "crm"),
        ({"metadata.m": {"eq": [[1, 2]]}}, "crm"),
        ({"metadata.m": {"in": [[[1, 2]], [3]]}}, "crm"),
        ({"metadata.m": {"in": []}}, ""),
        ({"metadata.deep.er": True}, "web"),
        ({"metadata": {"contains": {"deep": {"er": True}}}}, "web"),
        ({"created_at": {"gte": "2025-06-01T00:00:00Z", "lt": "2026-01-02T00:00:00+01:00"}}, "web"),
        ({"expires_at": None}, "bare crm text web"),
        ({"OR": [{"user_id": "Alice"}, {"metadata.n": "5"}]}, "crm text"),
        ({"NOT": [{"user_id": "bob"}]}, "bare crm"),
        ({"NOT": {"metadata.n": {"gt": 5}}}, "bare crm text"),
        ({"AND": [{"user_id": "bob"}, {"NOT": [{"metadata.source": "web"}]}]}, "text"),
    ],
)
async def test_a_filter_matches_just_these(world: World, filters: Any, matches: str) -> None:
    workspace, names = await stocked(world)
    question = Question(workspace, "global", world.space, 10, condition=decode_filters(filters))
    found = await world.find(question, QUERY)
    assert " ".join(sorted(names[hit.id] for hit in found.hits)) == matches


async def test_copies_under_a_result_pass_the_filter_too(world: World) -> None:
    workspace = await world.workspace()
    copies = [
        (await world.add(workspace, namespace, QUERY[None], contents=["same"], user_id=user))[0]
        for namespace, user in (("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"))
    ]
    question = Question(workspace, "a", world.space, 10, condition=decode_filters({"user_id": "x"}))
    async with about(world.api, [workspace]) as connection:
        [hit] = (await by_vector(connection, question, QUERY)).hits
        similar = await similar_ids(connection, question, [hit])
    assert {hit.id, *similar[hit.id]} == set(copies[:2])


async def test_whatever_the_decoder_accepts_postgres_can_run(world: World) -> None:
    workspace, _ = await stocked(world)
    rng = random.Random(5)
    ran = 0
    for _ in range(400):
        try:
            condition = decode_filters(_random_filter(rng, 0))
        except InvalidError:
            continue
        await world.find(Question(workspace, None, world.space, 10, condition=condition), QUERY)
        ran += 1
    assert ran > 100


def _random_filter(rng: random.Random, depth: int) -> Any:
    if depth < 3 and rng.random() < 0.3:
        parts = [_random_filter(rng, depth + 1) for _ in range(rng.randint(1, 3))]
        return {rng.choice(["AND", "OR", "NOT"]): parts}
    name = rng.choice(
        [
            "user_id",
            "source",
            "created_at",
            "expires_at",
            "categories",
            "metadata",
            "metadata.n",
            "metadata.tags.0",
            "metadata.'; --",
            "metadata..",
            "metadata.{x}",
        ]
    )
    operators = ["eq", "ne", "in", "gt", "gte", "lt", "lte", "contains", "icontains"]
    value = _random_value(rng, 0)
    return {name: value} if rng.random() < 0.2 else {name: {rng.choice(operators): value}}


def _random_value(rng: random.Random, depth: int) -> Any:
    if depth < 3 and rng.random() < 0.3:
        return [_random_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    if depth < 2 and rng.random() < 0.1:
        return {"k": _random_value(rng, depth + 1)}
    return rng.choice(
        [
            None,
            True,
            0,
            -1,
            1.5,
            1e300,
            -(1 << 63),
            (1 << 64) - 1,
            "",
            "x",
            "'",
            "\\",
            "{}",
            "$1",
            "%",
            "🙂",
            "*",
            "2026-01-31T09:00:00Z",
            "0001-01-01T00:00:00+00:00",
            "9999-12-31T23:59:59.999999Z",
        ]
    )
