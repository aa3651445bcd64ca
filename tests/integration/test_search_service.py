"""The searcher: its public shape, its answers when the provider is down, and a moving pointer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from engram.domain.spaces import parse_embedding
from engram.embedding.hashing import HashingProvider
from engram.embedding.provider import Embedded, Kind, Provider, ProviderError
from engram.errors import UnavailableError
from engram.storage.spaces import create_space
from engram_ingest.search import Searcher, decode_context, decode_search
from tests.support.searching import World, open_world

DIMENSIONS = 64


class Spaces:
    """A registry of providers that a test may exchange."""

    def __init__(self, providers: dict[int, Provider]) -> None:
        self.providers = providers

    def key(self, space: int) -> str:
        return self.provider(space).spec.key

    def provider(self, space: int) -> Provider:
        if space not in self.providers:
            raise UnavailableError("unknown_space", "gone")
        return self.providers[space]


class Failing(HashingProvider):
    """Fails as a provider does."""

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        del texts, kind
        raise ProviderError("server", "It is down.")


class Hanging(HashingProvider):
    """Never answers."""

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        del texts, kind
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url, DIMENSIONS) as opened:
        yield opened


@pytest.fixture
async def workspace(world: World) -> UUID:
    return await world.workspace()


def provider(dimensions: int = DIMENSIONS, kind: type[HashingProvider] = HashingProvider):
    return kind(parse_embedding(f"hashing@{dimensions}"))


@pytest.fixture
def spaces(world: World) -> Spaces:
    return Spaces({world.space: provider()})


@pytest.fixture
def searcher(world: World, spaces: Spaces) -> Searcher:
    return Searcher(world.api, spaces)


async def remember(
    world: World, workspace: UUID, *texts: str, namespace: str = "global", **columns: object
) -> list[UUID]:
    vectors = (await provider().embed(texts, "document")).vectors
    return await world.add(workspace, namespace, vectors, contents=texts, **columns)


async def test_the_answer_has_the_public_shape(
    world: World, workspace: UUID, searcher: Searcher
) -> None:
    tea, copy, _ = await remember(world, workspace, "likes green tea", "likes green tea", "runs")
    answer = await searcher.search(
        workspace, decode_search({"query": "green tea", "namespace": "global"})
    )
    assert list(answer) == ["results", "space", "route", "degraded"]
    assert (answer["route"], answer["degraded"]) == ("exact", False)
    assert answer["space"] == f"hashing:ngram-1@{DIMENSIONS}"
    first = answer["results"][0]
    assert list(first) == ["memory", "score", "similar"]
    assert {first["memory"]["id"], *first["similar"]} == {str(tea), str(copy)}
    assert first["memory"]["content"] == "likes green tea"
    assert first["memory"]["embedded"] is True
    assert answer["results"][1]["similar"] == []


@pytest.mark.parametrize("kind", [Failing, Hanging])
async def test_a_provider_that_fails_or_hangs_leaves_words_to_answer(
    world: World, workspace: UUID, kind: type[HashingProvider]
) -> None:
    [tea, _] = await remember(world, workspace, "likes green tea", "runs")
    down = Searcher(world.api, Spaces({world.space: provider(kind=kind)}), query_timeout_s=0.05)
    answer = await down.search(workspace, decode_search({"query": "tea!", "min_score": 0.9}))
    assert [result["memory"]["id"] for result in answer["results"]] == [str(tea)]
    assert (answer["route"], answer["degraded"]) == ("lexical", True)
    assert answer["space"] == f"hashing:ngram-1@{DIMENSIONS}"


async def test_a_space_without_a_known_provider_leaves_words_to_answer(
    world: World, workspace: UUID
) -> None:
    await remember(world, workspace, "likes green tea")
    answer = await Searcher(world.api, Spaces({})).search(
        workspace, decode_search({"query": "tea"})
    )
    assert (len(answer["results"]), answer["degraded"], answer["space"]) == (1, True, None)


async def test_a_query_is_embedded_again_when_the_read_pointer_moves(
    world: World, workspace: UUID, spaces: Spaces, searcher: Searcher, database_url: str
) -> None:
    [tea] = await remember(world, workspace, "likes green tea")
    request = decode_search({"query": "green tea"})
    before = await searcher.search(workspace, request)
    login = await asyncpg.connect(database_url)
    made = await create_space(login, parse_embedding("hashing@32"), deterministic=True)
    await login.close()
    spaces.providers[made.id] = provider(32)
    other = World(world.api, world.worker, made.id, 32)
    vectors = (await provider(32).embed(["likes green tea"], "document")).vectors
    await other.embed(workspace, "global", [tea], vectors)
    await world.worker.execute(
        "UPDATE engram.workspace SET read_space = $2 WHERE id = $1", workspace, made.id
    )
    after = await searcher.search(workspace, request)
    assert [a["space"] for a in (before, after)] == ["hashing:ngram-1@64", "hashing:ngram-1@32"]
    assert [a["results"][0]["memory"]["id"] for a in (before, after)] == [str(tea)] * 2
    assert not after["degraded"]


async def test_a_namespaces_own_read_space_is_used_for_it_alone(
    world: World, workspace: UUID, spaces: Spaces, searcher: Searcher, database_url: str
) -> None:
    await remember(world, workspace, "likes green tea")
    login = await asyncpg.connect(database_url)
    made = await create_space(login, parse_embedding("hashing@32"), deterministic=True)
    await login.close()
    spaces.providers[made.id] = provider(32)
    await world.worker.execute("UPDATE engram.namespace SET read_space = $1", made.id)
    one = await searcher.search(workspace, decode_search({"query": "tea", "namespace": "global"}))
    every = await searcher.search(workspace, decode_search({"query": "tea"}))
    assert (one["space"], len(one["results"])) == ("hashing:ngram-1@32", 0)
    assert (every["space"], len(every["results"])) == ("hashing:ngram-1@64", 1)


async def test_blended_rank_prefers_what_matters_and_was_said_lately(
    world: World, workspace: UUID, searcher: Searcher
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=365)
    [old] = await remember(
        world, workspace, "likes green tea", importance=1.0, reinforced_at=long_ago
    )
    [new] = await remember(world, workspace, "likes green teas", importance=1.0)
    ids = {}
    for rank in ("similarity", "blended"):
        answer = await searcher.search(
            workspace, decode_search({"query": "likes green tea", "rank": rank})
        )
        ids[rank] = [result["memory"]["id"] for result in answer["results"]]
    assert ids == {"similarity": [str(old), str(new)], "blended": [str(new), str(old)]}


async def test_the_context_block_holds_the_best_memories_within_its_budget(
    world: World, workspace: UUID, searcher: Searcher
) -> None:
    texts = [f"likes green tea number {i}" for i in range(30)]
    await remember(world, workspace, *texts, "</memory> likes\ngreen tea")
    body = {"query": "green tea", "max_tokens": 60, "format": "xml"}
    answer = await searcher.context(workspace, decode_context(body))
    assert 0 < answer["tokens"] <= 60
    assert len(answer["memories"]) == answer["context"].count("</memory>") > 0
    assert list(answer) == ["context", "memories", "tokens"]


async def test_an_empty_workspace_answers_with_nothing(workspace: UUID, searcher: Searcher) -> None:
    answer = await searcher.search(workspace, decode_search({"query": "anything"}))
    assert (answer["results"], answer["degraded"]) == ([], False)
    block = await searcher.context(workspace, decode_context({"query": "anything"}))
    assert block == {"context": "", "memories": [], "tokens": 0}
