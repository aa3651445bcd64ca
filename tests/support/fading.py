"""Memories of a chosen age, written past engram with vectors; sweeps, and what they did."""

from typing import Any
from uuid import UUID

from engram_curator.decay import Watch, decay, decay_on_request
from tests.support.store import Store

_INSERT = """
WITH made AS (
    INSERT INTO engram.memory (
        workspace, id, namespace, version, state, content, content_sha256, fold_hash, metadata,
        categories, importance, pinned, source, created_at, updated_at, versioned_at, versioned_by,
        expires_at, reinforced_at)
    SELECT $1, gen_random_uuid(), $2, 1, $4, 'memory ' || n, sha256(n::text::bytea),
           sha256(n::text::bytea), '{}', '{}', $5, $6, 'native', now(), now(), now(), 'test', $7,
           now() - make_interval(secs => $3 * 86400 + n)
    FROM generate_series(1, $8) AS n
    RETURNING id, namespace
), named AS (
    INSERT INTO engram.namespace (workspace, name) VALUES ($1, $2) ON CONFLICT DO NOTHING
), embedded AS (
    INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding)
    SELECT $1, namespace, id, 1, array_fill(1, ARRAY[256])::halfvec FROM made
)
SELECT id FROM made
"""


async def aged(
    store: Store, count: int, days: float, namespace: str = "user:a", **columns: Any
) -> list[UUID]:
    """Store memories that were last reinforced some days ago, the last one longest ago."""
    rows = await store.sql.fetch(
        _INSERT,
        columns.get("workspace", store.workspace),
        namespace,
        float(days),
        columns.get("state", "active"),
        columns.get("importance", 0.5),
        columns.get("pinned", False),
        columns.get("expires_at"),
        count,
    )
    return [row["id"] for row in rows]


async def sweep(store: Store, watch: Watch | None = None) -> None:
    """Run the scheduled sweep once."""
    await decay(store.service, watch or Watch())


async def carry_out(store: Store) -> None:
    """Carry out the runs that were asked for."""
    await decay_on_request(store.service, Watch())


async def in_state(store: Store, state: str) -> set[UUID]:
    """Return the ids of all memories in a state, of every workspace."""
    rows = await store.sql.fetch("SELECT id FROM engram.memory WHERE state = $1", state)
    return {row["id"] for row in rows}


async def with_vectors(store: Store) -> set[UUID]:
    """Return the ids of memories that have a vector."""
    rows = await store.sql.fetch("SELECT memory_id AS id FROM engram_vec.space_1")
    return {row["id"] for row in rows}


async def last_run(store: Store) -> dict[str, Any]:
    """Return the newest run as the API shows it."""
    answer = await store.client.get("/v1/decay/runs", params={"limit": 1})
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()["items"][0]
    return run
