"""Dedup across a migration: never between spaces, and no merge in a space nobody calibrated."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from engram.domain.spaces import parse_embedding
from engram.embedding.provider import ProviderError
from engram.serving.spaces import SpaceRegistry
from engram.storage import deduplicating
from engram.storage.spaces import create_space
from engram_curator.dedup import begin_due, work_once
from engram_curator.dedup_batch import Batch
from engram_curator.dedup_process import ComparisonFailedError
from tests.support.comparers import comparing
from tests.support.store import Store, open_store
from tests.support.sweeping import (
    LEASE,
    add,
    dump,
    finish,
    like,
    show,
    start,
    states,
    sweep,
)

TEXTS = ("Bob plays chess.", "bob plays chess")
NEAR, FAR = [like(1), like(1, 0.98, 1)], [like(1), like(2)]
OLD, NEW = 1, 2


@pytest.fixture
async def store(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Store]:
    """A store under migration from space 1 to space 2, read in space 1."""
    async with open_store(
        database_url, nats_url, "hashing@64", superuser_url=superuser_url
    ) as opened:
        login = await asyncpg.connect(database_url)
        spec = parse_embedding("hashing@32")
        made = await create_space(login, spec, deterministic=True)
        await login.close()
        assert made.id == NEW
        await opened.sql.execute(
            "INSERT INTO engram.migration (id, source_space, target_space, phase, plan, "
            "source_key, target_key) VALUES ($1, 1, 2, 'verified', '{}', 'old', $2)",
            *(uuid7(), spec.key),
        )
        await opened.service.spaces.refresh()
        yield opened


async def in_new(store: Store, ids: Sequence[UUID], vectors: Sequence[list[float]]) -> None:
    """Give memories these vectors in the new space."""
    await store.sql.execute(
        "INSERT INTO engram_vec.space_2 (workspace, namespace, memory_id, version, embedding) "
        "SELECT m.workspace, m.namespace, m.id, m.version, e.v::halfvec "
        "FROM unnest($1::uuid[], $2::text[]) AS e (id, v) JOIN engram.memory m ON m.id = e.id",
        *(list(ids), [str(vector) for vector in vectors]),
    )


def new(seed: int, cosine: float = 1.0, other: int = 0) -> list[float]:
    return like(seed, cosine, other, dimensions=32)


async def read_from(store: Store, space: int) -> None:
    """Move the pointer of the whole workspace, as a cutover or a rollback does."""
    await store.sql.execute("UPDATE engram.workspace SET read_space = $1", space)


async def calibrate_new(store: Store) -> None:
    await store.sql.execute(
        "UPDATE engram.space SET merge_from = 0.5, propose_from = 0.5 WHERE id = 2"
    )


@contextlib.contextmanager
def before(name: str, do: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Do something each time before a step of a batch."""
    step = getattr(Batch, name)

    async def first(self: Batch, *args: Any) -> Any:
        await do()
        return await step(self, *args)

    with patch.object(Batch, name, first):
        yield


async def test_only_vectors_of_the_space_that_is_read_are_compared(store: Store) -> None:
    await calibrate_new(store)
    near_in_new = await add(store, TEXTS, FAR, namespace="user:a")
    await in_new(store, near_in_new, [new(1), new(1, 0.98, 1)])
    near_in_old = await add(store, TEXTS, NEAR, namespace="user:b")
    await in_new(store, near_in_old, [new(1), new(2)])
    assert (await sweep(store))["merged"] == 1
    assert await states(store, near_in_new) == ["active", "active"]
    assert sorted(await states(store, near_in_old)) == ["active", "merged"]
    await read_from(store, NEW)
    assert (await sweep(store))["merged"] == 1
    assert sorted(await states(store, near_in_new)) == ["active", "merged"]


async def test_a_namespace_that_was_cut_over_early_is_compared_by_its_own_pointer(
    store: Store,
) -> None:
    await calibrate_new(store)
    early = await add(store, TEXTS, FAR, namespace="user:early")
    await in_new(store, early, [new(1), new(1, 0.98, 1)])
    late = await add(store, TEXTS, FAR, namespace="user:late")
    await in_new(store, late, [new(1), new(1, 0.98, 1)])
    await store.sql.execute("UPDATE engram.namespace SET read_space = 2 WHERE name = 'user:early'")
    run = await sweep(store)
    assert (run["merged"], run["counts"]["namespaces"]) == (1, 2)
    assert sorted(await states(store, early)) == ["active", "merged"]
    assert await states(store, late) == ["active", "active"]
    tasks = await store.sql.fetch("SELECT namespace, space FROM engram.dedup_task ORDER BY 1")
    assert [tuple(row) for row in tasks] == [("user:early", NEW), ("user:late", OLD)]


async def test_a_cutover_after_the_plan_drops_what_was_planned(store: Store) -> None:
    ids = await add(store, TEXTS, NEAR)
    run = await start(store)
    async with comparing() as comparer:
        assert await work_once(store.service, comparer, LEASE)
    await read_from(store, NEW)
    before_it = await dump(store, "engram.merge", "engram.proposal", "engram.namespace")
    ended = await finish(store, run["id"])
    assert (ended["state"], ended["merged"], ended["counts"]["namespaces_moved"]) == ("done", 0, 1)
    assert await states(store, ids) == ["active", "active"]
    assert await dump(store, "engram.merge", "engram.proposal", "engram.namespace") == before_it


@pytest.mark.parametrize("step", ["_record", "_apply"])
async def test_a_cutover_after_the_comparison_merges_and_proposes_nothing_of_it(
    store: Store, step: str
) -> None:
    """Compared in the old space, and neither merged nor proposed once the new one is read."""
    ids = await add(store, [*TEXTS, "Bob plays Ann."], [*NEAR, like(1, 0.9, 4)])
    run = await start(store)
    with before(step, lambda: read_from(store, NEW)):
        ended = await finish(store, run["id"])
    assert (ended["state"], ended["merged"], ended["counts"]["namespaces_moved"]) == ("done", 0, 1)
    assert await states(store, ids) == ["active"] * 3
    if step == "_record":
        assert await store.sql.fetchval("SELECT count(*) FROM engram.proposal") == 0
    # It is still to be compared, in the space that is read now.
    await calibrate_new(store)
    await in_new(store, ids[:2], [new(1), new(1, 0.98, 1)])
    assert (await sweep(store))["merged"] == 1


async def test_a_cutover_between_a_crash_and_its_repair_drops_what_was_decided(
    store: Store,
) -> None:
    ids = await add(store, TEXTS, NEAR)
    run = await start(store)
    with patch.object(Batch, "_apply", side_effect=ComparisonFailedError("killed")):
        async with comparing() as comparer:
            with contextlib.suppress(Exception):
                while await work_once(store.service, comparer, LEASE):
                    pass
    assert await store.sql.fetchval("SELECT merges IS NOT NULL FROM engram.dedup_task")
    await read_from(store, NEW)
    ended = await finish(store, run["id"])
    assert (ended["state"], ended["merged"]) == ("done", 0)
    assert await states(store, ids) == ["active", "active"]


async def test_a_cutover_that_was_rolled_back_meanwhile_leaves_the_plan_good(store: Store) -> None:
    ids = await add(store, TEXTS, NEAR)
    run = await start(store)

    async def there_and_back() -> None:
        await read_from(store, NEW)
        await read_from(store, OLD)

    with before("_record", there_and_back):
        ended = await finish(store, run["id"])
    assert ended["merged"] == 1
    assert sorted(await states(store, ids)) == ["active", "merged"]


async def test_a_rollback_after_the_comparison_merges_nothing_of_the_new_space(
    store: Store,
) -> None:
    await calibrate_new(store)
    ids = await add(store, TEXTS, FAR)
    await in_new(store, ids, [new(1), new(1, 0.98, 1)])
    await read_from(store, NEW)
    run = await start(store)
    with before("_apply", lambda: read_from(store, OLD)):
        ended = await finish(store, run["id"])
    assert (ended["merged"], ended["counts"]["left_moved"]) == (0, 1)
    assert await states(store, ids) == ["active", "active"]


async def test_a_space_that_is_dropped_after_the_plan_ends_the_run_well(
    store: Store, database_url: str
) -> None:
    await add(store, TEXTS, NEAR)
    run = await start(store)
    async with comparing() as comparer:
        assert await work_once(store.service, comparer, LEASE)
    await read_from(store, NEW)
    await store.sql.execute("DROP TABLE engram_vec.space_1")
    await store.sql.execute("DELETE FROM engram.space WHERE id = 1")
    ended = await finish(store, run["id"])
    assert (ended["state"], ended["counts"]["namespaces_moved"]) == ("done", 1)


async def test_the_first_space_needs_no_calibration(store: Store) -> None:
    await add(store, TEXTS, NEAR)
    assert (await sweep(store))["merged"] == 1
    assert await store.sql.fetchval("SELECT merge_from FROM engram.space WHERE id = 1") is None


async def test_a_space_that_a_migration_brought_is_calibrated_before_its_first_merge(
    store: Store,
) -> None:
    ids = await add(store, TEXTS, FAR)
    await in_new(store, ids, [new(1), new(1, 0.98, 1)])
    await read_from(store, NEW)
    run = await sweep(store)
    assert run["merged"] == 1
    kept = await store.sql.fetchrow(
        "SELECT merge_from, propose_from FROM engram.space WHERE id = 2"
    )
    assert kept["merge_from"] == kept["propose_from"] is not None
    assert await store.sql.fetchval("SELECT merge_from FROM engram.space WHERE id = 1") is None


async def test_while_it_cannot_be_calibrated_it_proposes_and_merges_nothing(store: Store) -> None:
    """Also of equal texts; and once it can be, the very same pairs are merged."""
    ids = await add(store, [*TEXTS, "Ann sails.", "Ann sails."], [*FAR, like(8), like(9)])
    await in_new(store, ids, [new(1), new(1, 0.98, 1), new(5), new(5)])
    await read_from(store, NEW)
    down = ProviderError("server", "It is down.")
    with patch.object(SpaceRegistry, "provider", side_effect=down):
        run = await sweep(store)
    assert (run["state"], run["merged"], run["counts"]["proposals"]) == ("done", 0, 2), run
    assert await states(store, ids) == ["active"] * 4
    proposals = (await store.client.get("/v1/dedup/proposals")).json()["items"]
    assert {one["reason"] for one in proposals} == {"uncalibrated"}
    async with store.service.pool.acquire() as connection:
        assert await deduplicating.uncalibrated(connection) == [NEW]
    await begin_due(store.service)
    [run_id] = await store.sql.fetch("SELECT id FROM engram.dedup_run WHERE state = 'running'")
    done = await finish(store, str(run_id["id"]))
    assert (done["state"], done["merged"]) == ("done", 2), done
    async with store.service.pool.acquire() as connection:
        assert await deduplicating.uncalibrated(connection) == []


async def test_a_person_may_accept_what_an_uncalibrated_space_proposes(store: Store) -> None:
    ids = await add(store, TEXTS, FAR)
    await in_new(store, ids, [new(1), new(1, 0.98, 1)])
    await read_from(store, NEW)
    down = ProviderError("server", "It is down.")
    with patch.object(SpaceRegistry, "provider", side_effect=down):
        await sweep(store)
    [proposal] = (await store.client.get("/v1/dedup/proposals")).json()["items"]
    answer = await store.client.post(f"/v1/dedup/proposals/{proposal['id']}/accept", json={})
    assert answer.status_code == 200, answer.text
    assert sorted(await states(store, ids)) == ["active", "merged"]


async def test_thresholds_that_somebody_set_meanwhile_are_kept(store: Store) -> None:
    async with store.service.pool.acquire() as connection:
        await calibrate_new(store)
        wide = deduplicating.default_thresholds()
        assert not await deduplicating.calibrate(connection, NEW, wide)
    assert await store.sql.fetchval("SELECT merge_from FROM engram.space WHERE id = 2") == 0.5


async def test_a_run_that_is_planned_again_after_a_cutover_reads_the_new_space(
    store: Store,
) -> None:
    await calibrate_new(store)
    ids = await add(store, TEXTS, FAR)
    await in_new(store, ids, [new(1), new(1, 0.98, 1)])
    assert (await sweep(store))["merged"] == 0
    assert (await sweep(store))["counts"] == {"namespaces": 0, "memories": 0}
    await read_from(store, NEW)
    run = await sweep(store)
    assert (run["merged"], (await show(store, run["id"]))["state"]) == (1, "done")
