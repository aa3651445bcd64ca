"""Memories with chosen vectors, written beside the API: no provider would give them.

It speaks SQL outside engram.storage on purpose: storage writes what a provider gave, under guard,
and has no door for vectors from elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import numpy as np
from pgvector import HalfVector
from uuid_utils.compat import uuid7

from engram.domain.memory import content_hash, fold_hash
from engram.domain.vectors import Matrix
from engram.storage.connection import Connection
from engram_cli.bench.checks import SAMPLE
from engram_cli.bench.figures import Step
from engram_cli.bench.stack import Stack

_BATCH: Final = 2_000

_NAMESPACE = "INSERT INTO engram.namespace (workspace, name) VALUES ($1, $2)"
_MEMORIES = """
INSERT INTO engram.memory (
    workspace, id, namespace, version, state, content, content_sha256, fold_hash, metadata,
    categories, importance, pinned, source, created_at, updated_at, versioned_at, versioned_by,
    reinforced_at)
SELECT $1, i, $2, 1, 'active', c, s, f, '{}', '{}', 0.5, false, 'native', $3, $3, $3, 'bench', $3
FROM unnest($4::uuid[], $5::text[], $6::bytea[], $7::bytea[]) AS r (i, c, s, f)
"""
_VECTORS = """
INSERT INTO {vectors} (workspace, namespace, memory_id, version, embedding)
SELECT $1, $2, i, 1, e FROM unnest($3::uuid[], $4::halfvec[]) AS r (i, e)
"""
_STORED = """
SELECT count(*) AS rows, count(DISTINCT v.embedding) AS kinds,
       count(*) FILTER (WHERE v.version = m.version AND m.state = 'active') AS current
FROM {vectors} v LEFT JOIN engram.memory m ON m.workspace = v.workspace AND m.id = v.memory_id
WHERE v.workspace = $1 AND v.namespace = $2
"""
_SAMPLE = "SELECT memory_id, embedding FROM {vectors} WHERE workspace = $1 AND memory_id = ANY ($2)"


async def plant(stack: Stack, namespace: str, vectors: Matrix, show: Step) -> list[UUID]:
    """Write memories and vectors into a new namespace; return their ids in the vectors' order."""
    await stack.pool.execute(_NAMESPACE, stack.workspace, namespace)
    ids: list[UUID] = []
    for start in range(0, len(vectors), _BATCH):
        part = vectors[start : start + _BATCH]
        ids += await _plant(stack, namespace, part, start)
        show(len(ids))
    return ids


async def plant_texts(stack: Stack, namespace: str, texts: Sequence[str], show: Step) -> list[UUID]:
    """Write memories without vectors into a new namespace; return their ids in order."""
    await stack.pool.execute(_NAMESPACE, stack.workspace, namespace)
    ids = [uuid7() for _ in texts]
    for start in range(0, len(texts), _BATCH):
        part = slice(start, start + _BATCH)
        async with stack.pool.acquire() as connection:
            await _insert(connection, stack, namespace, ids[part], texts[part])
        show(min(start + _BATCH, len(texts)))
    return ids


async def _insert(
    connection: Connection,
    stack: Stack,
    namespace: str,
    ids: Sequence[UUID],
    texts: Sequence[str],
) -> None:
    await connection.execute(
        _MEMORIES,
        *(stack.workspace, namespace, datetime.now(UTC), ids, texts),
        [content_hash(text) for text in texts],
        [fold_hash(text) for text in texts],
    )


async def _plant(stack: Stack, namespace: str, vectors: Matrix, start: int) -> list[UUID]:
    ids = [uuid7() for _ in vectors]
    texts = [f"planted {start + number} in {namespace}" for number in range(len(ids))]
    sql = _VECTORS.replace("{vectors}", stack.vectors)
    # One transaction: the embedder never sees a memory that lacks its vector.
    async with stack.pool.acquire() as connection, connection.transaction():
        await _insert(connection, stack, namespace, ids, texts)
        encoded = [HalfVector(vector) for vector in vectors]
        await connection.execute(sql, stack.workspace, namespace, ids, encoded)
    return ids


async def faults_of(
    stack: Stack, namespace: str, ids: Sequence[UUID], vectors: Matrix
) -> list[str]:
    """Return what is wrong with what was planted: counts, versions, copies, or changed vectors."""
    counts = await stack.row(_STORED, stack.workspace, namespace)
    faults = [
        f"{namespace}: {number:,} {what} instead of {len(ids):,}"
        for what, number in counts.items()
        if number != len(ids)
    ]
    rows = sorted(random.Random(7).sample(range(len(ids)), min(SAMPLE, len(ids))))  # noqa: S311 - no secret
    sql = _SAMPLE.replace("{vectors}", stack.vectors)
    found = await stack.pool.fetch(sql, stack.workspace, [ids[row] for row in rows])
    stored = {row["memory_id"]: row["embedding"].to_numpy() for row in found}
    wrong = [
        row
        for row in rows
        if not np.array_equal(stored.get(ids[row], []), vectors[row].astype(np.float16))
    ]
    return faults + [f"{namespace}: {len(wrong)} sampled vectors changed"] * bool(wrong)
