"""The database finds the near vectors that reading all finds, and the same follows of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

import numpy as np
import pytest

from engram.domain.pairs.choice import reach
from engram.storage import dedup_vectors
from engram.storage.dedup_vectors import Where
from engram_curator import dedup_reading
from engram_curator.dedup_batch import Batch
from tests.support.store import Store, open_store
from tests.support.sweeping import add, like, sweep

NAMESPACES = ("few", "many", "owned")
# What the space starts with, and just beside it.
BESIDE = (0.5, 0.5004, 0.4996, 0.52, 0.48, 0.9, 0.99)


@pytest.fixture
async def store(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, "hashing@64", superuser_url=superuser_url
    ) as opened:
        yield opened


@contextmanager
def compared_by(way: str) -> Iterator[list[dict[str, Any]]]:
    """Let every namespace be compared in one way; yield the plans that come of it."""
    plans: list[dict[str, Any]] = []
    whole = Batch._all_compared

    async def kept(batch: Batch, *given: Any) -> dict[str, Any]:
        plans.append(await whole(batch, *given))
        return plans[-1]

    with (
        patch.object(dedup_reading, "choose", lambda *_: way),
        patch.object(Batch, "_all_compared", kept),
    ):
        yield plans


async def fill(store: Store, rng: np.random.Generator, rows: int) -> None:
    """Add facts, restatements and contradictions, at cosines beside the threshold to others."""
    for namespace in NAMESPACES:
        numbers = rng.integers(0, 12, size=rows)
        texts = [
            ("Ann owns {} boats.", "ann owns {} boats", "Ann does not own {} boats.")[n % 3].format(
                n // 3 + 2
            )
            for n in numbers
        ]
        beside = rng.choice(BESIDE, size=rows)
        others = rng.integers(0, 5, size=rows)
        vectors = [
            like(int(n) % 4, float(c), int(o) + 1)
            for n, c, o in zip(numbers, beside, others, strict=True)
        ]
        half = rows // 2
        owner = {"agent_id": "x"} if namespace == "owned" else {}
        await add(store, texts[:half], vectors[:half], namespace=namespace)
        await add(store, texts[half:], vectors[half:], namespace=namespace, **owner)


async def spoil(store: Store, namespace: str) -> None:
    """Let some memories expire, some wait for a newer vector, and some be gone."""
    await store.sql.execute(
        "WITH o AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM engram.memory "
        "WHERE namespace = $1) UPDATE engram.memory m SET "
        "expires_at = CASE WHEN o.n % 7 = 0 THEN now() - interval '1 day' ELSE expires_at END, "
        "version = CASE WHEN o.n % 11 = 0 THEN 2 ELSE version END, "
        "state = CASE WHEN o.n % 13 = 0 THEN 'archived' ELSE state END "
        "FROM o WHERE o.id = m.id",
        namespace,
    )


async def both(store: Store, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a dry run plans when it reads all, and when it asks the database."""
    plans = []
    for way in ("pruned", "knn"):
        with compared_by(way) as made:
            run = await sweep(store, dry_run=True, **options)
        assert run["state"] in ("done", "capped"), run
        plans.append({name: plan for part in made for name, plan in part.items()})
    return plans[0], plans[1]


@pytest.mark.parametrize("seed", range(2))
async def test_asking_the_database_comes_to_the_same_plans_as_reading_all(
    store: Store, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    other, _ = await store.other_workspace()
    await add(store, ["Ann owns 2 boats."], [like(0)], namespace="many", workspace=other)
    await fill(store, rng, 60)
    await spoil(store, "many")
    whole, asked = await both(store)
    assert asked == whole
    # Now most is compared already, and only a few are new.
    await sweep(store, max_share=1)
    await fill(store, rng, 6)
    whole, asked = await both(store)
    assert asked == whole
    assert sum(plan["counts"]["pairs"] for plan in whole.values()) > 0
    assert {name: plan["memories"] for name, plan in whole.items()}.keys() == set(NAMESPACES)


async def test_a_run_that_asks_the_database_merges_what_is_new(store: Store) -> None:
    await add(store, ["One fact.", "Another matter."], [like(1), like(2)])
    await sweep(store)
    await add(store, ["one fact"], [like(1, 0.99, 4)])
    with compared_by("knn"):
        assert (await sweep(store))["merged"] == 1


async def test_one_new_memory_among_a_thousand_is_asked_of_the_database(store: Store) -> None:
    texts = [f"The code of door {n} is {n * 7919}." for n in range(1_000)]
    await add(store, texts, [like(n) for n in range(1_000)], namespace="large")
    await add(store, ["A small matter."], [like(1)], namespace="small")
    with patch.object(dedup_vectors, "stream_near", wraps=dedup_vectors.stream_near) as asked:
        assert (await sweep(store))["merged"] == 0
        assert not asked.called
        for namespace in ("large", "small"):
            copy = texts[:1] if namespace == "large" else ["a small matter"]
            await add(store, copy, [like(0 if namespace == "large" else 1)], namespace=namespace)
        run = await sweep(store)
    assert (run["merged"], run["counts"]["namespaces_done"]) == (2, 2)
    [call] = asked.call_args_list
    assert call.args[1].names == ["large"]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
async def test_vectors_just_beside_the_threshold_are_told_apart(
    store: Store, threshold: float
) -> None:
    rng = np.random.default_rng(7)
    steps = rng.normal(scale=3e-4, size=300)
    beside = [like(n % 3, threshold + float(step), n + 1) for n, step in enumerate(steps)]
    ids = await add(store, [f"Old {n}." for n in range(300)], beside, namespace="user:a")
    compared = await store.sql.fetchval("SELECT max(seq) FROM engram_vec.space_1")
    ids += await add(store, ["New 0.", "New 1.", "New 2."], [like(n) for n in range(3)],
                     namespace="user:a")  # fmt: skip
    rows = await store.sql.fetch(
        "SELECT memory_id, embedding::vector::real[] AS v FROM engram_vec.space_1"
    )
    at = {row["memory_id"]: np.array(row["v"], dtype=np.float64) for row in rows}
    stored = np.array([at[memory] / np.linalg.norm(at[memory]) for memory in ids])
    nearest = (stored @ stored[300:].T).max(axis=1)
    taken = bytearray()

    async def take(part: bytes) -> None:
        taken.extend(part)

    where = Where(store.workspace, 1, ["user:a"], [compared])
    async with store.service.pool.acquire() as connection:
        await dedup_vectors.stream_near(connection, where, [reach(threshold, 64)], take)
    sent = {memory for memory in ids if memory.bytes in taken}
    wanted = {memory for memory, cosine in zip(ids, nearest, strict=True) if cosine >= threshold}
    allowed = {
        memory for memory, cosine in zip(ids, nearest, strict=True) if cosine >= threshold - 4e-5
    }
    assert 100 < len(wanted) < 203
    assert wanted <= sent <= allowed


async def test_what_is_far_is_not_read_and_nothing_crosses_workspaces(store: Store) -> None:
    other, _ = await store.other_workspace()
    old = await add(store, ["Old and far."], [like(1)])
    near = await add(store, ["Old and near."], [like(2, 0.6, 3)])
    compared = await store.sql.fetchval("SELECT max(seq) FROM engram_vec.space_1")
    new = await add(store, ["New."], [like(2)])
    await add(store, ["New."], [like(2)], workspace=other)
    namespace = await store.sql.fetchval("SELECT namespace FROM engram.memory LIMIT 1")
    where = Where(store.workspace, 1, [namespace, "nobody"], [compared, 0])
    taken = bytearray()

    async def take(part: bytes) -> None:
        taken.extend(part)

    async with store.service.pool.acquire() as connection:
        assert await dedup_vectors.fresh_counts(connection, where) == [1, 0]
        [size] = await dedup_vectors.scope_sizes(connection, where)
        await dedup_vectors.stream_near(connection, where, [reach(0.5, 64)] * 2, take)
    assert (size.place, size.rows, size.fresh) == (1, 3, 1)
    assert [memory for memory in (*old, *near, *new) if memory.bytes in taken] == [*near, *new]
    # A row is its fields' count and six fields behind their lengths; beside a head and a tail.
    assert len(taken) == 19 + 2 + 2 * (2 + 6 * 4 + 4 + 16 + 16 + 4 + 8 + 4 + 2 * 64)
    assert isinstance(size.owner, UUID)
