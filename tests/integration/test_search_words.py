"""The lexical route: words find memories, whatever the query holds."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from engram.domain.filters import decode_filters
from engram.domain.lexical import as_tsquery
from engram.storage.connection import about
from engram.storage.search import Found, Question, by_words
from tests.support.searching import World, clustered, open_world


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url, 16) as opened:
        yield opened


async def ask(world: World, question: Question, query: str) -> Found:
    async with about(world.api, [question.workspace]) as connection:
        return await by_words(connection, question, as_tsquery(query))


async def add(
    world: World, workspace: UUID, *contents: str, namespace: str = "global", **columns: object
) -> list[UUID]:
    vectors = clustered(len(contents), 16, 1)
    return await world.add(workspace, namespace, vectors, contents=contents, **columns)


async def test_any_word_matches_and_more_words_rank_higher(world: World) -> None:
    workspace = await world.workspace()
    one, both, _ = await add(
        world, workspace, "green tea at noon", "Green tea with honey", "black coffee"
    )
    found = await ask(world, Question(workspace, None, world.space, 10), "Honey in the tea?")
    assert [hit.id for hit in found.hits] == [both, one]
    assert all(0 <= hit.score < 1 for hit in found.hits)


async def test_filters_namespace_states_and_expiry_hold_for_words_too(world: World) -> None:
    workspace = await world.workspace()
    past = datetime.now(UTC) - timedelta(hours=1)
    await add(world, workspace, *(f"tea {i}" for i in range(300)), user_id="bob")
    await add(world, workspace, "tea archived", state="archived", user_id="alice")
    await add(world, workspace, "tea expired", expires_at=past, user_id="alice")
    await add(world, workspace, "tea elsewhere", namespace="user:x", user_id="alice")
    [wanted] = await add(world, workspace, "tea " + "and much else " * 50, user_id="alice")
    condition = decode_filters({"user_id": "alice"})
    question = Question(workspace, "global", world.space, 10, condition=condition)
    assert [hit.id for hit in (await ask(world, question, "tea")).hits] == [wanted]


async def test_equal_texts_are_shown_once(world: World) -> None:
    workspace = await world.workspace()
    await add(world, workspace, *(["tea"] * 30), "tea and milk")
    found = await ask(world, Question(workspace, None, world.space, 10), "tea")
    assert len(found.hits) == 2


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "!!! ??? :*",
        "'",
        "a' & b | !(",
        "\\",
        "___",
        "🙂",
        "<->",
        "x" * 32_768,
        "ÆØÅ 東京 ²",
    ],
)
async def test_no_query_is_a_syntax_error(world: World, query: str) -> None:
    workspace = await world.workspace()
    await add(world, workspace, "tea")
    assert (await ask(world, Question(workspace, None, world.space, 10), query)).hits == []
