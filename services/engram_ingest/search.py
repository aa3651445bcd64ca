"""Answers searches: the query's vector, the search in one transaction, the public shape."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import structlog

from engram.domain.context import build_context
from engram.domain.decay import faded
from engram.domain.decay_settings import Rules
from engram.domain.lexical import as_tsquery
from engram.domain.ranking import blended
from engram.domain.vectors import Matrix
from engram.embedding.provider import Provider, ProviderError
from engram.errors import EngramError, UnavailableError
from engram.storage import records
from engram.storage.connection import Connection, Pool, about
from engram.storage.decay_settings import rules_of
from engram.storage.search import Found, Hit, Question, by_vector, by_words, similar_ids
from engram.storage.spaces import read_space
from engram_ingest.accesses import Accesses
from engram_ingest.questions import (
    ContextRequest,
    SearchRequest,
    decode_context,
    decode_search,
)

__all__ = ["Searcher", "Spaces", "decode_context", "decode_search"]

log = structlog.get_logger(__name__)

QUERY_TIMEOUT_S = 5.0
# Importance can lift a memory into the answer from this far below.
_BLEND_POOL = 4
_BLEND_POOL_MIN = 50
# The read pointer moves once in a migration; more often than this it is not worth following.
_TRIES = 4
_MAX_HINTS = 10_000

Where = tuple[UUID, str | None]


class Spaces(Protocol):
    """What is asked of the registry of spaces."""

    def key(self, space: int) -> str:
        """Return the public name of a space."""

    def provider(self, space: int) -> Provider:
        """Return the open provider of a space."""


class _MovedError(Exception):
    """Another space is read now than the one the query was embedded for."""

    def __init__(self, space: int) -> None:
        super().__init__(space)
        self.space = space


class Searcher:
    """Searches on behalf of requests.

    Args:
        pool: of the API role.
        spaces: keys and providers by space id.
        query_timeout_s: how long a query may take to be embedded before words must do.
        accesses: counts what is found, which reinforces it; None counts nothing.
    """

    def __init__(
        self,
        pool: Pool,
        spaces: Spaces,
        query_timeout_s: float = QUERY_TIMEOUT_S,
        accesses: Accesses | None = None,
    ) -> None:
        self._pool = pool
        self._spaces = spaces
        self._query_timeout_s = query_timeout_s
        self._accesses = accesses
        # Where each scope was last read: only a guess, which every search checks.
        self._hints: dict[Where, int] = {}

    async def search(self, workspace: UUID, request: SearchRequest) -> dict[str, Any]:
        """Return the answer of ``POST /v1/memories/search`` (api.md).

        Raises:
            UnavailableError: Postgres cannot be reached, or spaces change too fast to follow.
        """
        found = await self._found(workspace, request)
        self._note(workspace, (result["memory"]["id"] for result in found["results"]))
        return found

    async def _found(self, workspace: UUID, request: SearchRequest) -> dict[str, Any]:
        where = (workspace, request.namespace)
        space = self._hints.get(where) or await self._read_pointer(where)
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            vector = None if last else await self._embed(space, request.query)
            try:
                # The last try takes whatever space is read: words are the same in all of them.
                answer = await self._answer(where, request, None if last else space, vector)
            except _MovedError as moved:
                space = moved.space
            except asyncpg.UndefinedTableError:
                # The space was released between two statements.
                space = await self._read_pointer(where)
            else:
                self._remember(where, space)
                return answer
        raise UnavailableError(
            "space_changing",
            "The space this searches is being exchanged.",
            cure="Try again.",
            retry_after_s=1,
        )

    async def context(self, workspace: UUID, request: ContextRequest) -> dict[str, Any]:
        """Return the answer of ``POST /v1/memories/context`` (api.md).

        Raises:
            UnavailableError: Postgres cannot be reached.
        """
        found = await self._found(
            workspace,
            SearchRequest(request.query, request.namespace, request.filters, request.limit),
        )
        memories = [result["memory"] for result in found["results"]]
        block = build_context(
            ((memory["id"], memory["content"]) for memory in memories),
            max_tokens=request.max_tokens,
            style=request.format,
        )
        self._note(workspace, block.ids)
        return {"context": block.text, "memories": list(block.ids), "tokens": block.tokens}

    def _note(self, workspace: UUID, ids: Iterable[str]) -> None:
        if self._accesses is not None:
            self._accesses.note(workspace, map(UUID, ids))

    async def _answer(
        self, where: Where, request: SearchRequest, space: int | None, vector: Matrix | None
    ) -> dict[str, Any]:
        workspace, namespace = where
        # One snapshot: the space is the one that is read at the moment its vectors are looked at.
        async with about(self._pool, [workspace], "repeatable_read") as connection:
            current = await read_space(connection, workspace, namespace)
            if space is not None and current != space:
                raise _MovedError(current)
            question = Question(
                workspace,
                namespace,
                current,
                _pool_size(request),
                request.min_score,
                request.filters,
            )
            if vector is None:
                found = await by_words(connection, question, as_tsquery(request.query))
            else:
                found = await by_vector(connection, question, vector)
            found = await _ranked(connection, workspace, found, request)
            results = await _results(connection, question, found.hits)
        return {
            "results": results,
            "space": self._key(current),
            "route": found.route,
            "degraded": vector is None,
        }

    async def _embed(self, space: int, query: str) -> Matrix | None:
        try:
            async with asyncio.timeout(self._query_timeout_s):
                embedded = await self._spaces.provider(space).embed([query], "query")
        except (ProviderError, EngramError, TimeoutError) as error:
            kind = getattr(error, "error_class", type(error).__name__)
            log.warning("query not embedded", space=space, reason=kind)
            return None
        return None if embedded.bad else embedded.vectors[0]

    async def _read_pointer(self, where: Where) -> int:
        async with about(self._pool, [where[0]]) as connection:
            return await read_space(connection, *where)

    def _remember(self, where: Where, space: int) -> None:
        if len(self._hints) >= _MAX_HINTS:
            self._hints.clear()
        self._hints[where] = space

    def _key(self, space: int) -> str | None:
        try:
            return self._spaces.key(space)
        except EngramError:
            return None  # made a moment ago: the registry has not seen it yet


def _pool_size(request: SearchRequest) -> int:
    if request.rank == "similarity":
        return request.limit
    return max(_BLEND_POOL_MIN, _BLEND_POOL * request.limit)


async def _ranked(
    connection: Connection, workspace: UUID, found: Found, request: SearchRequest
) -> Found:
    if request.rank == "similarity":
        return found
    return _blended(found, await rules_of(connection, workspace), request.limit)


def _blended(found: Found, rules: Rules, limit: int) -> Found:
    """Order by similarity and by what is left of importance, by each namespace's half-life."""
    now = datetime.now(UTC)
    half_lives = {
        name: rules.policy(name).half_life_days for name in {hit.namespace for hit in found.hits}
    }
    hits = [replace(hit, score=_blend(hit, now, half_lives[hit.namespace])) for hit in found.hits]
    hits.sort(key=lambda hit: (-hit.score, hit.id))
    return Found(hits[:limit], found.route)


def _blend(hit: Hit, now: datetime, half_life_days: float) -> float:
    left = faded(
        hit.importance, hit.reinforced_at, now, half_life_days=half_life_days, pinned=hit.pinned
    )
    return blended(hit.score, left)


async def _results(
    connection: Connection, question: Question, hits: Sequence[Hit]
) -> list[dict[str, Any]]:
    if not hits:
        return []
    ids = [hit.id for hit in hits]
    found = await records.by_ids(connection, question.workspace, ids, question.space)
    similar = await similar_ids(connection, question, hits)
    return [
        {
            "memory": found[hit.id],
            "score": hit.score,
            "similar": [str(other) for other in similar[hit.id]],
        }
        for hit in hits
        # Each statement sees its own moment: what was deleted between two of them is gone.
        if hit.id in found
    ]
