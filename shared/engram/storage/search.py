"""Runs a search: exact, through the indexes, or by words when there is no query vector."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from engram.domain.filters import Condition
from engram.domain.indexing import Route, choose_route
from engram.domain.vectors import Matrix
from engram.storage.connection import Connection
from engram.storage.indexes import ready_indexes
from engram.storage.queries import statement, vector_table

MAX_SIMILAR = 100
# Candidates of the first look and how many times as many in the second; the third is everything.
_FIRST = 64
_WIDER = 16
_MAX_EF_SEARCH = 1000
# What words alone find is ranked among this many matches at most.
_LEXICAL_FIRST = 200
_LEXICAL_ALL = 20_000
# About half a second of work; older memories of a larger scope are not found in an outage.
_LEXICAL_NEWEST = 50_000
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Question:
    """What to search for.

    Attributes:
        namespace: None searches the whole workspace.
        wanted: distinct results to find, at least 1.
        min_score: least cosine similarity; None is no bound.
        condition: over ``engram.memory m``.
    """

    workspace: UUID
    namespace: str | None
    space: int
    wanted: int
    min_score: float | None = None
    condition: Condition = field(default_factory=Condition)


@dataclass(frozen=True, slots=True)
class Hit:
    """One distinct result.

    Attributes:
        score: cosine similarity in [-1, 1]; of words, a rank in [0, 1).
    """

    id: UUID
    fold_hash: bytes
    score: float
    namespace: str
    importance: float
    pinned: bool
    reinforced_at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """Distinct hits, best first, and how they were found."""

    hits: list[Hit]
    route: Literal["exact", "indexed", "lexical"]


async def by_vector(connection: Connection, question: Question, vector: Matrix) -> Found:
    """Return the memories whose vectors are nearest to ``vector``.

    A first look takes a few candidates and sees what of them may be shown. When filters, stale
    vectors or copies leave too few, a second look takes more, and a third takes the whole scope:
    so nothing that matches is ever missing because of what does not.

    Args:
        connection: in a transaction about the workspace.
        question: its space is the one ``vector`` belongs to.
        vector: (d,) numbers, not all zero.

    Raises:
        asyncpg.UndefinedTableError: the space was dropped meanwhile.
    """
    ready = await ready_indexes(connection, question.space, question.workspace, question.namespace)
    route = choose_route(question.namespace, ready.rows, ready.ranges)
    arguments = arguments_of(question, vector)
    first = max(_FIRST, 3 * question.wanted)
    for count in (first, first * _WIDER):
        ef_search = str(min(_MAX_EF_SEARCH, max(100, 2 * count)))
        await connection.execute(statement("search", "settings"), ef_search)
        sql = candidates_sql(question, route, ready.predicates, count)
        rows = await connection.fetch(sql, *arguments)
        hits = _distinct(rows, question.min_score)
        if _is_enough(rows[0], len(hits), question, route, count):
            return Found(hits[: question.wanted], route.kind)
    await connection.execute(statement("search", "whole_scope"))
    rows = await connection.fetch(every_sql(question), *arguments)
    await connection.execute(statement("search", "look_ups"))
    return Found(_distinct(rows, question.min_score), "exact")


async def by_words(connection: Connection, question: Question, words: str) -> Found:
    """Return the memories that share words with the query, best first.

    Args:
        connection: in a transaction about the workspace.
        question: its ``min_score`` is not used: ranks of words are no similarities.
        words: a ``tsquery`` made by `engram.domain.words`; empty finds nothing.
    """
    hits: list[Hit] = []
    arguments = (question.workspace, question.namespace, words, *question.condition.arguments)
    for count in (max(_LEXICAL_FIRST, 3 * question.wanted), _LEXICAL_ALL) if words else ():
        sql = _fill(
            "lexical", count=str(count), newest=str(_LEXICAL_NEWEST), where=_where(question, 4)
        )
        rows = await connection.fetch(sql, *arguments)
        hits = _distinct(rows, None)
        if len(hits) >= question.wanted or rows[0]["scanned"] < count:
            break
    return Found(hits[: question.wanted], "lexical")


async def similar_ids(
    connection: Connection, question: Question, hits: Iterable[Hit]
) -> dict[UUID, list[UUID]]:
    """Return for each hit the other matching memories of the scope with the same text.

    At most `MAX_SIMILAR` of each, oldest first.
    """
    listed = list(hits)
    arguments: list[Any] = [[hit.id for hit in listed], [hit.fold_hash for hit in listed]]
    within = ""
    if question.namespace is not None:
        arguments.append(question.namespace)
        within = "AND m.namespace = $4 "
    where = within + _where(question, len(arguments) + 2)
    sql = _fill("similar", count=str(MAX_SIMILAR), where=where)
    found: dict[UUID, list[UUID]] = {hit.id: [] for hit in listed}
    for row in await connection.fetch(
        sql, question.workspace, *arguments, *question.condition.arguments
    ):
        found[row["shown"]].append(row["id"])
    return found


def candidates_sql(
    question: Question, route: Route, predicates: Mapping[str, str], count: int
) -> str:
    """Return the statement that looks at the ``count`` nearest vectors of the scope.

    Its arguments are the workspace, the vector, the namespace where there is one, and those of
    the condition.
    """
    vectors, scope = vector_table(question.space), _scope(question)
    parts = []
    for item in route.ranges:
        shared = item.scope.namespace is None and question.namespace is not None
        within = " AND namespace = $3" if shared else ""
        parts.append(
            _fill(
                "range",
                vectors=vectors,
                predicate=predicates[item.name],
                within=within,
                count=str(count),
            )
        )
    if route.ranges:
        scope += f" AND v.seq > {int(route.ranges[-1].high)}"
    parts.append(_fill("scan", vectors=vectors, scope=scope, count=str(count)))
    return _fill(
        "candidates",
        parts="\nUNION ALL\n".join(parts),
        count=str(count),
        where=_condition(question),
    )


def every_sql(question: Question) -> str:
    """Return the statement that looks at the whole scope; arguments as of `candidates_sql`."""
    return _fill(
        "every",
        vectors=vector_table(question.space),
        scope=_scope(question),
        where=_condition(question),
        count=str(int(question.wanted)),
    )


def arguments_of(question: Question, vector: Matrix) -> list[Any]:
    """Return the arguments of `candidates_sql` and `every_sql`."""
    named = [] if question.namespace is None else [question.namespace]
    return [question.workspace, HalfVector(vector), *named, *question.condition.arguments]


def _scope(question: Question) -> str:
    return "v.workspace = $1" + ("" if question.namespace is None else " AND v.namespace = $3")


def _condition(question: Question) -> str:
    return _where(question, 3 if question.namespace is None else 4)


def _where(question: Question, first: int) -> str:
    sql = question.condition.numbered_from(first)
    return f"AND {sql}" if sql else ""


def _fill(name: str, **slots: str) -> str:
    # In one pass: what is put in may hold braces, because a namespace may.
    return _SLOT.sub(lambda slot: slots[slot[1]], statement("search", name))


def _distinct(rows: Sequence[asyncpg.Record], min_score: float | None) -> list[Hit]:
    hits: dict[bytes, Hit] = {}
    for row in rows:
        # A row without a memory only carries counts; NaN compares with nothing.
        if row["id"] is None or math.isnan(row["score"]):
            continue
        score = max(-1.0, min(1.0, row["score"]))
        if min_score is not None and score < min_score:
            continue
        hit = Hit(
            row["id"],
            row["fold_hash"],
            score,
            row["namespace"],
            row["importance"],
            row["pinned"],
            row["reinforced_at"],
        )
        hits.setdefault(hit.fold_hash or hit.id.bytes, hit)
    return list(hits.values())


def _is_enough(
    totals: asyncpg.Record, found: int, question: Question, route: Route, count: int
) -> bool:
    if found >= question.wanted:
        return True
    if route.kind == "exact" and totals["scanned"] < count:
        return True
    # All that was not looked at is further away than what is too far already.
    return (
        question.min_score is not None
        and totals["scanned"] >= count
        and 1 - totals["furthest"] < question.min_score
    )
