"""Shadow reads: the same queries answered by the old space and by the new one."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog

from engram.domain.vectors import Matrix
from engram.domain.verifying import AT, Comparison, Judged, Read, Reason, compare, query_of
from engram.errors import UnavailableError
from engram.serving.process import Service
from engram.storage import verifying
from engram.storage.connection import about
from engram.storage.migrating import Migration
from engram.storage.search import Found, Question, by_vector
from engram.storage.verifying import Name, Scope
from engram_migrator.asking import embed_all

log = structlog.get_logger(__name__)

QUERIES: Final = 100


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query and where it is asked: from a memory's own text, or a person's."""

    workspace: UUID
    namespace: str | None
    query: str
    sought: UUID | None = None
    relevant: frozenset[UUID] = frozenset()


async def compare_reads(service: Service, scope: Scope, migration: Migration) -> Comparison:
    """Answer sampled and judged queries from both spaces and hold the answers against each other.

    Queries are parts of memories' own texts, so nothing of what people ask needs to be kept; each
    is asked in its namespace. An old provider that does not answer leaves nothing to compare.

    Raises:
        UnavailableError: the new space's provider does not answer.
    """
    asked = [*await _sampled(service, scope, migration), *_judged(migration, scope)]
    if not asked:
        return compare([])
    new = await _vectors(service, migration.target, asked)
    try:
        old = await _vectors(service, migration.source, asked)
    except UnavailableError as error:
        log.warning("no shadow reads", migration=str(migration.id), code=error.code)
        note = Reason("old_provider_silent", "The old space's provider does not answer queries.")
        return Comparison({"reads": 0, "overlap": None}, (), (note,))
    reads, judged = [], list[Judged]()
    for one, old_vector, new_vector in zip(asked, old, new, strict=True):
        if old_vector is None or new_vector is None:
            continue
        read = await _read(service, migration, one, old_vector, new_vector)
        if one.relevant:
            judged.append(Judged(read.old, read.new, one.relevant))
        else:
            reads.append(read)
    return compare(reads, judged)


async def _sampled(service: Service, scope: Scope, migration: Migration) -> list[_Asked]:
    count = int(migration.options.get("queries") or QUERIES)
    async with service.pool.acquire() as connection:
        found = await verifying.sample(connection, scope, migration.target, count)
    return [
        _Asked(*one.name, query_of(one.content, random.random()), one.id)  # noqa: S311 - which part
        for one in found
    ]


def _judged(migration: Migration, scope: Scope) -> list[_Asked]:
    """Return what the options hold of a judged file, as far as it is in scope."""
    listed: Sequence[dict[str, Any]] = migration.options.get("judged") or ()
    found = []
    for one in listed:
        workspace, namespace = UUID(one["workspace"]), one.get("namespace")
        chosen: set[Name] | None = None if scope.names is None else set(scope.names)
        if chosen is None or (workspace, namespace) in chosen:
            relevant = frozenset(map(UUID, one["relevant"]))
            found.append(_Asked(workspace, namespace, one["query"], None, relevant))
    return found


async def _vectors(service: Service, space: int, asked: Sequence[_Asked]) -> list[Matrix | None]:
    return await embed_all(service.spaces.provider(space), [one.query for one in asked], "query")


async def _read(
    service: Service, migration: Migration, asked: _Asked, old_vector: Matrix, new_vector: Matrix
) -> Read:
    old, old_s = await _answer(service, migration.source, asked, old_vector)
    new, new_s = await _answer(service, migration.target, asked, new_vector)
    return Read(
        [hit.id for hit in old.hits],
        [hit.id for hit in new.hits],
        asked.sought,
        old.hits[0].score if old.hits else None,
        new.hits[0].score if new.hits else None,
        old_s,
        new_s,
    )


async def _answer(
    service: Service, space: int, asked: _Asked, vector: Matrix
) -> tuple[Found, float]:
    async with about(service.pool, [asked.workspace], "repeatable_read") as connection:
        began = time.monotonic()
        question = Question(asked.workspace, asked.namespace, space, AT)
        found = await by_vector(connection, question, vector)
        return found, time.monotonic() - began
