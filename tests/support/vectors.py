"""Vectors and failures written past engram, for reconcile to find; and what it said it found."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prometheus_client import REGISTRY

from engram.storage import reconciling
from tests.support.store import Store

SPACE = "hashing:ngram-1@8"
GOOD = "[1,0,0,0,0,0,0,0]"


async def old(store: Store, *contents: str) -> list[UUID]:
    """Store memories that are too old to be on their way, each with a good vector."""
    ids = [UUID((await store.post(content))["id"]) for content in contents]
    await store.sql.execute(
        "UPDATE engram.memory SET versioned_at = now() - interval '1 hour' WHERE id = ANY ($1)", ids
    )
    for memory in ids:
        await put(store, memory)
    return ids


async def put(store: Store, memory: UUID, vector: str = GOOD, version: int = 1) -> None:
    await store.sql.execute(
        "INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding) "
        "VALUES ($1, 'global', $2, $3, $4::text::halfvec)",
        *(store.workspace, memory, version, vector),
    )


async def forget(store: Store, memories: Iterable[UUID]) -> None:
    await store.sql.execute(
        "DELETE FROM engram_vec.space_1 WHERE memory_id = ANY ($1)", list(memories)
    )


async def fail(store: Store, memory: UUID, version: int = 1, **fields: Any) -> None:
    await store.sql.execute(
        "INSERT INTO engram.embedding_failure (workspace, memory_id, space, version, attempts, "
        "class, error, next_attempt, dead, discarded_at) "
        "VALUES ($1, $2, 1, $3, 3, 'rejected', 'x', now() + interval '1 hour', $4, $5)",
        *(store.workspace, memory, version, fields.get("dead", False), fields.get("discarded_at")),
    )


async def due(store: Store) -> dict[UUID, str]:
    """Return the class of each failure reconcile wrote."""
    rows = await store.sql.fetch(
        "SELECT memory_id, class FROM engram.embedding_failure WHERE next_attempt <= now() "
        "AND attempts = 0 AND NOT dead AND error = 'Found by reconcile.'"
    )
    return {row["memory_id"]: row["class"] for row in rows}


async def having_vectors(store: Store) -> set[UUID]:
    rows = await store.sql.fetch("SELECT memory_id FROM engram_vec.space_1")
    return {row["memory_id"] for row in rows}


def found(space: str = SPACE) -> dict[str, float]:
    values = {
        kind: REGISTRY.get_sample_value("engram_reconcile_found", {"space": space, "kind": kind})
        for kind in reconciling.KINDS
    }
    return {kind: value for kind, value in values.items() if value}


async def spoil(store: Store, memory: UUID, halves: bytes) -> None:
    """Write eight halves that pgvector would refuse, as a broken disk might."""
    await store.sql.execute(
        "ALTER TABLE engram_vec.space_1 DROP CONSTRAINT IF EXISTS space_1_embedding_check"
    )
    await store.sql.execute("CREATE CAST (bytea AS halfvec) WITHOUT FUNCTION")
    await store.sql.execute(
        "UPDATE engram_vec.space_1 SET embedding = $2::bytea::halfvec WHERE memory_id = $1",
        *(memory, b"\x08\x00\x00\x00" + halves),
    )
    await store.sql.execute("DROP CAST (bytea AS halfvec)")
