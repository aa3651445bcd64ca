"""A store of memories with vectors that a test chooses, and the true neighbours to compare with."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from engram.domain.memory import content_hash, fold_hash
from engram.domain.spaces import parse_embedding
from engram.storage.connection import Pool, about, open_pool
from engram.storage.search import Found, Question, by_vector
from engram.storage.spaces import create_space

Vectors = NDArray[np.float32]

_INSERT_MEMORIES = """
INSERT INTO engram.memory (
    workspace, id, namespace, version, state, content, content_sha256, fold_hash, user_id,
    metadata, categories, importance, pinned, source, created_at, updated_at, versioned_at,
    versioned_by, expires_at, reinforced_at)
SELECT $1, i, $2, 1, $6, c, h, f, $7, $8, $9, $10, $11, 'native', $12, $12, $12, 'test', $13, $14
FROM unnest($3::uuid[], $4::text[], $5::bytea[], $15::bytea[]) AS u (i, c, h, f)
"""


def clustered(count: int, dimensions: int, seed: int, *, centres: int = 200) -> Vectors:
    """Unit vectors around random centres, as texts about a few hundred subjects would have."""
    around = np.random.default_rng(7).normal(size=(centres, dimensions))
    rng = np.random.default_rng(seed)
    near = around[rng.integers(0, centres, count)]
    made = near + 0.6 * rng.normal(size=(count, dimensions))
    return (made / np.linalg.norm(made, axis=1)[:, None]).astype(np.float32)


@dataclass
class Placed:
    """Rows of one scope as the test knows them."""

    ids: list[UUID] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)

    def nearest(self, queries: Vectors, count: int) -> list[list[UUID]]:
        """The true neighbours of each query, by halves as they are stored."""
        stored = np.concatenate(self.vectors).astype(np.float16).astype(np.float32)
        stored /= np.linalg.norm(stored, axis=1)[:, None]
        scores = queries.astype(np.float16).astype(np.float32) @ stored.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return [[self.ids[row] for row in rows] for rows in best]


@dataclass
class World:
    """Two pools on one database with one space."""

    api: Pool
    worker: Pool
    space: int
    dimensions: int

    async def workspace(self) -> UUID:
        """Make a workspace."""
        made = uuid4()
        await self.worker.execute(
            "INSERT INTO engram.workspace (id, name, read_space) VALUES ($1, $2, $3)",
            *(made, str(made), self.space),
        )
        return made

    async def add(
        self,
        workspace: UUID,
        namespace: str,
        vectors: Vectors,
        *,
        contents: Sequence[str] | None = None,
        **columns: Any,
    ) -> list[UUID]:
        """Store memories with these vectors; texts differ unless they are given."""
        ids = [uuid4() for _ in vectors]
        texts = list(contents) if contents is not None else [f"memory {i}" for i in ids]
        now = datetime.now(UTC)
        arguments = (
            *(workspace, namespace, ids, texts, [content_hash(text) for text in texts]),
            *(columns.get("state", "active"), columns.get("user_id"), columns.get("metadata", {})),
            *(columns.get("categories", []), columns.get("importance", 0.5)),
            *(columns.get("pinned", False), columns.get("created_at", now)),
            *(columns.get("expires_at"), columns.get("reinforced_at", now)),
            [fold_hash(text) for text in texts],
        )
        await self.worker.execute(
            "INSERT INTO engram.namespace (workspace, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            *(workspace, namespace),
        )
        await self.worker.execute(_INSERT_MEMORIES, *arguments)
        await self.embed(workspace, namespace, ids, vectors)
        return ids

    async def embed(
        self,
        workspace: UUID,
        namespace: str,
        ids: Sequence[UUID],
        vectors: Vectors,
        version: int = 1,
    ) -> None:
        """Write vectors as the embedder does: a row written again gets a new seq."""
        await self.worker.execute(
            f"""
            INSERT INTO engram_vec.space_{self.space} AS s
                (workspace, namespace, memory_id, version, embedding)
            SELECT $1, $2, i, $5, e FROM unnest($3::uuid[], $4::halfvec[]) AS u (i, e)
            ON CONFLICT (workspace, memory_id) DO UPDATE
            SET version = excluded.version, embedding = excluded.embedding, seq = excluded.seq
            """,
            *(workspace, namespace, list(ids), [HalfVector(v) for v in vectors], version),
        )

    async def find(self, question: Question, query: Vectors) -> Found:
        """Search as the API does."""
        async with about(self.api, [question.workspace]) as connection:
            return await by_vector(connection, question, query)

    async def recall(
        self, question: Question, queries: Vectors, placed: Placed
    ) -> tuple[float, set[str]]:
        """Mean recall@wanted over the queries, and the routes they took."""
        shares, routes = [], set()
        true = placed.nearest(queries, question.wanted)
        for query, expected in zip(queries, true, strict=True):
            found = await self.find(question, query)
            routes.add(found.route)
            shares.append(len({hit.id for hit in found.hits} & set(expected)) / len(expected))
        return float(np.mean(shares)), routes


@contextlib.asynccontextmanager
async def open_world(database_url: str, dimensions: int) -> AsyncIterator[World]:
    """Open pools on a database, making its space where there is none."""
    login = await asyncpg.connect(database_url)
    try:
        spec = parse_embedding(f"hashing@{dimensions}")
        space = await create_space(login, spec, deterministic=True)
    finally:
        await login.close()
    async with (
        await open_pool(database_url, "engram_api", size=2, name="test api") as api,
        await open_pool(database_url, "engram_worker", size=2, name="test worker") as worker,
    ):
        yield World(api, worker, space.id, dimensions)
