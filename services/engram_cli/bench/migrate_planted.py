"""Memories of ``engram bench migrate``: in many namespaces, embedded in the old space already.

It speaks SQL outside engram.storage on purpose, as `planted` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pgvector import HalfVector
from uuid_utils.compat import uuid7

from engram.domain.memory import content_hash, fold_hash
from engram.domain.spaces import parse_embedding
from engram.embedding.registry import ProviderSettings, open_provider
from engram_cli.bench.figures import Step
from engram_cli.bench.stack import Stack

TOKENS: Final = 150
_BATCH: Final = 1_000

_NAMESPACES = """
INSERT INTO engram.namespace (workspace, name)
SELECT DISTINCT $1::uuid, n FROM unnest($2::text[]) AS n ON CONFLICT DO NOTHING
"""
_MEMORIES = """
INSERT INTO engram.memory (
    workspace, id, namespace, version, state, content, content_sha256, fold_hash, metadata,
    categories, importance, pinned, source, created_at, updated_at, versioned_at, versioned_by,
    reinforced_at)
SELECT $1, i, n, 1, 'active', c, s, f, '{}', '{}', 0.5, false, 'native', $2, $2, $2, 'bench', $2
FROM unnest($3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::bytea[]) AS r (i, n, c, s, f)
"""
_VECTORS = """
INSERT INTO {vectors} (workspace, namespace, memory_id, version, embedding)
SELECT $1, n, i, 1, e FROM unnest($2::uuid[], $3::text[], $4::halfvec[]) AS r (i, n, e)
"""


@dataclass(frozen=True, slots=True)
class Planted:
    """``memories`` texts over ``namespaces`` namespaces, all different; none is kept in memory."""

    memories: int
    namespaces: int

    def at(self, number: int) -> tuple[str, str]:
        """Return the namespace and the text of a memory; numbers go round."""
        number %= self.memories
        return f"user:{number % self.namespaces:05}", f"{number:08d} ".ljust(TOKENS * 4, "x")


async def plant(stack: Stack, planted: Planted, embedding: str, show: Step) -> None:
    """Write them with the vectors that the old space's provider makes."""
    provider = open_provider(parse_embedding(embedding), ProviderSettings())
    for start in range(0, planted.memories, _BATCH):
        listed = [planted.at(n) for n in range(start, min(start + _BATCH, planted.memories))]
        made = (await provider.embed([text for _, text in listed], "document")).vectors
        await _insert(stack, listed, [HalfVector(vector) for vector in made])
        show(start + len(listed))


async def _insert(
    stack: Stack, listed: Sequence[tuple[str, str]], vectors: list[HalfVector]
) -> None:
    names, texts = [name for name, _ in listed], [text for _, text in listed]
    ids = [uuid7() for _ in listed]
    hashes = [content_hash(text) for text in texts], [fold_hash(text) for text in texts]
    sql = _VECTORS.replace("{vectors}", stack.vectors)
    async with stack.pool.acquire() as connection, connection.transaction():
        await connection.execute(_NAMESPACES, stack.workspace, names)
        await connection.execute(
            _MEMORIES, stack.workspace, datetime.now(UTC), ids, names, texts, *hashes
        )
        await connection.execute(sql, stack.workspace, ids, names, vectors)
