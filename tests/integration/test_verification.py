"""Verification of a new space: clean passes, every defect is found, and both are written down."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from engram.embedding.provider import ProviderError
from engram_migrator import verify
from engram_migrator.verify import Verdict
from tests.support.moving import Moving, moving

WORDS = ("anchor", "basil", "copper", "delta", "ember", "falcon", "garnet", "harbor", "indigo")


@pytest.fixture
async def world(
    database_url: str, nats_url: str, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Moving]:
    monkeypatch.setattr(verify, "_PATIENCE_S", 0.0)
    async with moving(database_url, nats_url, superuser_url) as made:
        items = [
            {
                "content": f"{one} and {other} are kept in drawer {n}{m} behind the {one} door",
                "namespace": f"user:{n % 3}",
            }
            for n, one in enumerate(WORDS)
            for m, other in enumerate(WORDS)
        ]
        await made.store.import_(items)
        await made.settled()
        # Nothing is on its way: what differs now is wrong.
        await made.store.sql.execute(
            "UPDATE engram.memory SET versioned_at = versioned_at - interval '1 hour'"
        )
        yield made


async def verified(world: Moving, *namespaces: str, **options: Any) -> Verdict:
    migration = replace(world.migration, options=options)
    names = [world.name(one) for one in namespaces] or None
    return await verify.run(world.service, migration, names)


async def states(world: Moving) -> dict[str, str]:
    rows = await world.store.sql.fetch(
        "SELECT namespace, state FROM engram.migration_namespace ORDER BY namespace"
    )
    return {row["namespace"]: row["state"] for row in rows}


async def test_a_complete_space_passes_and_the_verdict_is_kept(world: Moving) -> None:
    verdict = await verified(world, sample=30, queries=30)
    assert (verdict.ok, verdict.failed) == (True, {})
    assert await states(world) == dict.fromkeys(("user:0", "user:1", "user:2"), "verified")
    kept = (await world.reread()).verdict
    assert kept == verdict.figures
    assert (kept["namespaces"], kept["rows"], kept["mismatches"]) == (3, 81, 0)
    assert (kept["samples"], kept["reads"]) == (30, 30)
    assert kept["least_cosine"] > 0.99
    assert kept["overlap"] > 0.3
    assert kept["found_new"] >= kept["found_old"] - 0.1
    assert kept["new_p95_s"] > 0


DEFECTS = {
    "missing": "DELETE FROM engram_vec.space_2 WHERE memory_id = $1",
    "extra": "UPDATE engram.memory SET state = 'archived' WHERE id = $1",
    "bad_vectors": "UPDATE engram_vec.space_2 SET embedding = array_fill(0.5, ARRAY[96])::halfvec "
    "WHERE memory_id = $1",
    "unlike_samples": "UPDATE engram_vec.space_2 SET embedding = "
    "l2_normalize((SELECT embedding FROM engram_vec.space_2 WHERE memory_id <> $1 LIMIT 1)) "
    "WHERE memory_id = $1",
}


@pytest.mark.parametrize("code", DEFECTS)
async def test_a_single_defect_fails_its_namespace_and_no_other(world: Moving, code: str) -> None:
    sql = world.store.sql
    victim = await sql.fetchval("SELECT id FROM engram.memory WHERE namespace = 'user:1' LIMIT 1")
    await sql.execute(DEFECTS[code], victim)
    verdict = await verified(world, sample=500, queries=1)
    assert not verdict.ok
    codes = {reason.code for reason in verdict.failed[world.name("user:1")]}
    assert code in codes
    assert list(verdict.failed) == [world.name("user:1")]
    assert await states(world) == {"user:0": "verified", "user:1": "failed", "user:2": "verified"}
    kept = await sql.fetchval(
        "SELECT verdict->'reasons'->0->>'code' FROM engram.migration_namespace "
        "WHERE namespace = 'user:1'"
    )
    assert kept in codes


async def test_a_stale_vector_is_missing_on_one_side_and_extra_on_the_other(world: Moving) -> None:
    sql = world.store.sql
    await sql.execute(
        "UPDATE engram.memory SET version = version + 1 WHERE id = "
        "(SELECT id FROM engram.memory WHERE namespace = 'user:0' LIMIT 1)"
    )
    verdict = await verified(world, sample=1, queries=1)
    assert {r.code for r in verdict.failed[world.name("user:0")]} == {"missing", "extra"}


async def test_what_is_young_may_still_be_on_its_way(world: Moving) -> None:
    await world.store.sql.execute(
        "UPDATE engram.memory SET version = version + 1, versioned_at = now() "
        "WHERE namespace = 'user:0'"
    )
    assert (await verified(world, sample=1, queries=1)).ok


async def test_what_the_embedder_gave_up_is_a_reason_of_its_own(world: Moving) -> None:
    sql = world.store.sql
    victim = await sql.fetchval("SELECT id FROM engram.memory WHERE namespace = 'user:2' LIMIT 1")
    await sql.execute("DELETE FROM engram_vec.space_2 WHERE memory_id = $1", victim)
    await sql.execute(
        "INSERT INTO engram.embedding_failure (workspace, memory_id, space, version, attempts, "
        "class, error, next_attempt, dead) SELECT workspace, id, 2, version, 5, 'contract', '', "
        "now(), true FROM engram.memory WHERE id = $1",
        victim,
    )
    verdict = await verified(world, sample=1, queries=1)
    assert [r.code for r in verdict.failed[world.name("user:2")]] == ["dead_letters"]


async def test_vectors_of_other_texts_are_found_by_shadow_reads_alone(world: Moving) -> None:
    # Every memory has its neighbour's vector: each count is right, and each search wrong.
    await world.store.sql.execute(
        "UPDATE engram_vec.space_2 v SET embedding = o.embedding FROM ("
        "  SELECT memory_id, lead(embedding, 10, embedding) OVER (ORDER BY memory_id) AS embedding"
        "  FROM engram_vec.space_2) AS o WHERE o.memory_id = v.memory_id"
    )
    verdict = await verified(world, sample=1, queries=60)
    assert "finds_less" in {reason["code"] for reason in verdict.figures["reasons"]}
    assert set((await states(world)).values()) == {"failed"}


async def test_judged_queries_decide_too(world: Moving) -> None:
    rows = await world.store.sql.fetch("SELECT id, content, namespace FROM engram.memory LIMIT 8")
    judged = [
        {
            "workspace": str(world.store.workspace),
            "namespace": row["namespace"],
            "query": row["content"],
            "relevant": [str(row["id"])],
        }
        for row in rows
    ]
    verdict = await verified(world, sample=1, queries=1, judged=judged)
    assert verdict.ok
    assert verdict.figures["judged"]["recall_new"] == 1.0
    other = await world.store.sql.fetchval(
        "SELECT embedding::text FROM engram_vec.space_2 WHERE NOT memory_id = ANY ($1) LIMIT 1",
        [row["id"] for row in rows],
    )
    opposite = str([-float(number) for number in other.strip("[]").split(",")])
    await world.store.sql.execute(
        "UPDATE engram_vec.space_2 SET embedding = $2::text::halfvec WHERE memory_id = ANY ($1)",
        *([row["id"] for row in rows], opposite),
    )
    verdict = await verified(world, sample=1, queries=1, judged=judged)
    codes = {reason["code"] for reason in verdict.figures["reasons"]}
    assert {"judged_recall", "judged_ndcg"} <= codes


async def test_only_the_namespaces_asked_for_are_looked_at(world: Moving) -> None:
    sql = world.store.sql
    await sql.execute("DELETE FROM engram_vec.space_2 WHERE namespace = 'user:0'")
    verdict = await verified(world, "user:1", sample=5, queries=5)
    assert (verdict.ok, verdict.figures["namespaces"]) == (True, 1)
    assert await states(world) == {"user:1": "verified"}


async def test_what_is_cut_over_already_keeps_its_state(world: Moving) -> None:
    await verified(world, sample=1, queries=1)
    await world.store.sql.execute(
        "UPDATE engram.migration_namespace SET state = 'cut_over' WHERE namespace = 'user:1'"
    )
    assert (await verified(world, sample=1, queries=1)).ok
    assert (await states(world))["user:1"] == "cut_over"


async def test_a_silent_old_provider_does_not_forbid_to_leave_it(world: Moving) -> None:
    provider = world.service.spaces.provider(1)

    async def silent(*_: Any) -> None:
        raise ProviderError("server", "Gone for good.")

    object.__setattr__(provider, "embed", silent)
    verdict = await verified(world, sample=5, queries=5)
    assert verdict.ok
    assert [note["code"] for note in verdict.figures["notes"]] == ["old_provider_silent"]
    assert verdict.figures["overlap"] is None


async def test_a_vector_made_by_an_adapter_is_missing_and_nothing_worse(world: Moving) -> None:
    await world.store.sql.execute(
        "UPDATE engram_vec.space_2 SET version = -version WHERE namespace = 'user:1'"
    )
    verdict = await verified(world, sample=1, queries=1)
    assert [r.code for r in verdict.failed[world.name("user:1")]] == ["missing"]
    assert UUID(verdict.figures["failures"][0]["workspace"]) == world.store.workspace
