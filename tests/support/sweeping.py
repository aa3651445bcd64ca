"""A store to sweep: memories with vectors of a test's choice, and the curator's work in steps."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from uuid_utils.compat import uuid7

from engram.domain.arrival import Decision, arriving
from engram.domain.memory import decode_item
from engram.storage.connection import about
from engram.storage.inserting import insert_all
from engram_curator.dedup import work_once
from tests.support.comparers import comparing
from tests.support.store import Store

LEASE = timedelta(seconds=15)


def like(seed: int, cosine: float = 1.0, other: int = 0, dimensions: int = 64) -> list[float]:
    """Return a unit vector of a seed; with ``other`` one at just this cosine to it."""
    vector = _unit(np.random.default_rng(seed).standard_normal(dimensions))
    if cosine < 1.0:
        away = np.random.default_rng(10_000 + other).standard_normal(dimensions)
        away = _unit(away - (away @ vector) * vector)
        vector = cosine * vector + np.sqrt(1 - cosine**2) * away
    return [float(number) for number in vector]


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


async def add(
    store: Store, contents: Sequence[str], vectors: Sequence[list[float]], **fields: Any
) -> list[UUID]:
    """Store memories as they are, without looking for repeats, each with a vector of its own."""
    workspace = fields.pop("workspace", store.workspace)
    items = [
        arriving(
            workspace, uuid7(), decode_item({"content": content, **fields}), "create",
            datetime.now(UTC),
        )
        for content in contents
    ]  # fmt: skip
    async with about(store.service.pool, [workspace]) as connection:
        await connection.executemany(
            "INSERT INTO engram.namespace (workspace, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            {(item.workspace, item.memory.namespace) for item in items},
        )
        decided = [((item, "test"), Decision("insert")) for item in items]
        await insert_all(connection, decided, datetime.now(UTC))
    await embed(store, [item.id for item in items], vectors)
    return [item.id for item in items]


async def embed(store: Store, ids: Sequence[UUID], vectors: Sequence[list[float]]) -> None:
    """Give memories these vectors, in their current version."""
    await store.sql.execute(
        "INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding) "
        "SELECT m.workspace, m.namespace, m.id, m.version, e.v::halfvec "
        "FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS e (id, v, place) "
        "JOIN engram.memory m ON m.id = e.id ORDER BY e.place "
        "ON CONFLICT (workspace, memory_id) DO UPDATE SET version = excluded.version, "
        "embedding = excluded.embedding, seq = excluded.seq",
        list(ids),
        [str(vector) for vector in vectors],
    )


async def start(store: Store, **options: Any) -> dict[str, Any]:
    """Begin a run by the API."""
    answer = await store.client.post("/v1/dedup/runs", json=options)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def finish(store: Store, run_id: str) -> dict[str, Any]:
    """Do the curator's work until a run has ended, and return it."""
    async with comparing() as comparer:
        while await work_once(store.service, comparer, LEASE):
            pass
    return await show(store, run_id)


async def sweep(store: Store, **options: Any) -> dict[str, Any]:
    """Begin a run and see it through."""
    run = await start(store, **options)
    return await finish(store, run["id"])


async def show(store: Store, run_id: str) -> dict[str, Any]:
    """Return a run as the API shows it."""
    run: dict[str, Any] = (await store.client.get(f"/v1/dedup/runs/{run_id}")).json()
    return run


async def states(store: Store, ids: Iterable[UUID]) -> list[str]:
    """Return the states of memories, in the order asked for."""
    rows = await store.sql.fetch(
        "SELECT id, state FROM engram.memory WHERE id = ANY ($1)", list(ids)
    )
    found = {row["id"]: row["state"] for row in rows}
    return [found[memory] for memory in ids]


async def dump(store: Store, *tables: str) -> dict[str, list[Any]]:
    """Return every row of tables, whole."""
    return {
        table: sorted(row[0] for row in await store.sql.fetch(f"SELECT t::text FROM {table} t"))
        for table in tables
    }
