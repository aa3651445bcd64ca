"""Cutover, rollback and release of a store that is written: refusals, kills at each step."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from engram.errors import ConflictError
from engram.serving.process import Service
from engram.storage import vectors
from engram.storage.keys import ensure_workspace
from engram.storage.vectors import Text
from engram_migrator import cutover
from tests.support.migrating_check import Reads
from tests.support.moving import KilledError, Moving, dying, moving
from tests.support.wait import eventually

NAMESPACES = ("user:a", "user:b", "user:c")


@pytest.fixture
async def world(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Moving]:
    async with moving(database_url, nats_url, superuser_url) as made:
        yield made


async def filled(world: Moving, each: int = 3) -> dict[UUID, str]:
    accepted = {}
    for namespace in NAMESPACES:
        for number in range(each):
            content = f"{namespace} keeps fact number {number}"
            record = await world.store.post(content, namespace=namespace)
            accepted[UUID(record["id"])] = content
    await world.settled()
    return accepted


async def test_all_namespaces_move_and_then_the_default(world: Moving) -> None:
    accepted = await filled(world)
    done = await cutover.cut(world.service, world.migration)
    assert (done.namespaces, done.workspaces) == (3, 1)
    assert await world.reads(*NAMESPACES) == [2, 2, 2]
    assert await world.default() == 2
    sql = world.store.sql
    assert await sql.fetchval("SELECT count(read_space) FROM engram.namespace") == 0
    states = await sql.fetch("SELECT DISTINCT state FROM engram.migration_namespace")
    assert [row["state"] for row in states] == ["cut_over"]
    found = await world.search("fact")
    assert (found["space"], len(found["results"])) == ("hashing:ngram-1@96", 9)
    await world.check.all((1, 2), accepted, right=world.right)
    again = await cutover.cut(world.service, world.migration)
    assert (again.namespaces, again.workspaces) == (0, 0)


async def test_what_no_bell_tells_of_any_more_is_asked_for_and_the_cutover_converges(
    world: Moving,
) -> None:
    """As when an embedder is killed: its bells come again later than anybody is fenced."""
    accepted = await filled(world)
    await world.store.sql.execute(
        "DELETE FROM engram_vec.space_2 WHERE memory_id = ANY ($1)", list(accepted)[:2]
    )
    done = await cutover.cut(world.service, world.migration)
    assert (done.namespaces, done.behind) == (3, {})
    await world.settled()
    await world.check.all((1, 2), accepted, right=world.right)


async def test_one_namespace_moves_alone_and_the_whole_is_searched_where_it_was(
    world: Moving,
) -> None:
    await filled(world)
    await cutover.cut(world.service, world.migration, [world.name("user:b")])
    assert await world.reads(*NAMESPACES) == [1, 2, 1]
    assert await world.default() == 1
    assert (await world.search("fact", "user:b"))["space"] == "hashing:ngram-1@96"
    whole = await world.search("fact")
    assert (whole["space"], len(whole["results"])) == ("hashing:ngram-1@64", 9)


async def test_rollback_brings_everything_back_with_what_was_written_since(world: Moving) -> None:
    accepted = await filled(world)
    await cutover.cut(world.service, world.migration)
    late = await world.store.client.post(
        "/v1/memories?wait=embedded",
        json={"content": "user:a keeps a late fact", "namespace": "user:a"},
    )
    accepted[UUID(late.json()["id"])] = "user:a keeps a late fact"
    assert late.json()["embedded"]
    done = await cutover.rollback(world.service, world.migration)
    assert done.workspaces == 1
    assert await world.reads(*NAMESPACES) == [1, 1, 1]
    found = await world.search("late fact", "user:a")
    assert late.json()["id"] in {result["memory"]["id"] for result in found["results"]}
    states = await world.store.sql.fetch("SELECT DISTINCT state FROM engram.migration_namespace")
    assert [row["state"] for row in states] == ["verified"]
    await world.settled()
    await world.check.all((1, 2), accepted, right=world.right)
    assert (await cutover.rollback(world.service, world.migration)).workspaces == 0
    assert (await cutover.cut(world.service, world.migration)).workspaces == 1


async def test_rollback_does_not_wait_for_an_old_space_that_never_catches_up(
    database_url: str, nats_url: str, superuser_url: str
) -> None:
    async with moving(database_url, nats_url, superuser_url, embedder=False) as world:
        record = await world.store.post("likes green tea", namespace="user:a")
        await world.store.post("likes black tea", namespace="user:b")
        await _embed(world, record, 2)
        await cutover.cut(world.service, world.migration)
        assert await world.default() == 2
        await world.store.sql.execute("UPDATE engram.workspace SET read_space = 1")
        await world.store.sql.execute("UPDATE engram.namespace SET read_space = 2")
        began = time.monotonic()
        await cutover.rollback(world.service, world.migration, patience_s=0.5)
        assert time.monotonic() - began < 10
        assert await world.reads("user:a", "user:b") == [1, 1]
        await world.check.pointers_are_sound()


async def _embed(world: Moving, record: dict[str, Any], space: int) -> None:
    text = Text(world.store.workspace, UUID(record["id"]), 1, record["content"], 0)
    rows = np.asarray([world.right[space](record["content"])], dtype=np.float32)
    async with world.service.pool.acquire() as connection, connection.transaction():
        assert await vectors.store_vectors(connection, [text], rows, space, datetime.now(UTC))


async def test_a_cutover_converges_while_one_namespace_is_written_all_the_time(
    world: Moving,
) -> None:
    accepted, stop = await filled(world), asyncio.Event()

    async def writing() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            content = f"user:a keeps live fact number {number}"
            record = await world.store.post(content, namespace="user:a")
            accepted[UUID(record["id"])] = content
            await asyncio.sleep(1 / 50)

    writer = asyncio.create_task(writing())
    try:
        await asyncio.sleep(0.5)
        done = await cutover.cut(world.service, world.migration)
        assert not writer.done()
    finally:
        stop.set()
        await writer
    assert done.namespaces >= 3
    assert await world.reads(*NAMESPACES) == [2, 2, 2]
    await world.settled()
    await world.check.all((1, 2), accepted, right=world.right)
    attempts = "SELECT coalesce(max(attempts), 0) FROM engram.embedding_failure"
    assert await world.store.sql.fetchval(attempts) == 0


async def test_release_refuses_while_anything_reads_the_old_space(world: Moving) -> None:
    await filled(world)
    service, migration, sql = world.service, world.migration, world.store.sql
    with pytest.raises(ConflictError, match="3 namespaces read it"):
        await cutover.release(service, migration)
    await cutover.cut(service, migration, [world.name("user:a"), world.name("user:b")])
    with pytest.raises(ConflictError, match="1 namespaces read it"):
        await cutover.release(service, migration)
    await cutover.cut(service, migration)
    run = uuid4()
    await sql.execute(
        "INSERT INTO engram.dedup_run (workspace, id, state, actor, options, counts, rule_version,"
        " lease_until) VALUES ($1, $2, 'running', 't', '{}', '{}', '1', now())",
        *(world.store.workspace, run),
    )
    await sql.execute(
        "INSERT INTO engram.dedup_task (workspace, run_id, namespace, space, compared_seq,"
        " newest_seq, horizon, row_count) VALUES ($1, $2, 'user:a', 1, 0, 9, '3', 9)",
        *(world.store.workspace, run),
    )
    with pytest.raises(ConflictError, match="compared in it by a dedup run"):
        await cutover.release(service, migration)
    await sql.execute("DELETE FROM engram.dedup_task")
    async with service.pool.acquire() as connection:
        stranger = await ensure_workspace(connection, "stranger", 1)
    # Of one workspace only: another one reads the same space.
    await sql.execute(
        "UPDATE engram.migration SET workspaces = ARRAY[$1::uuid]", world.store.workspace
    )
    migration = await world.reread()
    with pytest.raises(ConflictError, match="1 workspaces read it by default"):
        await cutover.release(service, migration)
    assert await sql.fetchval("SELECT state FROM engram.space WHERE id = 1") == "active"
    await sql.execute("UPDATE engram.workspace SET read_space = 2 WHERE id = $1", stranger)
    await cutover.release(service, migration)
    assert await world.check.tables() == [2]


async def test_release_of_namespaces_cut_one_by_one_moves_the_default_first(world: Moving) -> None:
    accepted = await filled(world)
    for namespace in NAMESPACES:
        await cutover.cut(world.service, world.migration, [world.name(namespace)])
    assert await world.default() == 1
    await cutover.release(world.service, world.migration)
    assert await world.default() == 2
    assert await world.check.tables() == [2]
    await world.check.all((2,), accepted)


async def test_after_a_release_everybody_finds_the_new_space(world: Moving) -> None:
    accepted = await filled(world)
    reads = Reads(world.keys)
    # Processes remember where a scope was read; nobody searches between cutover and release.
    reads.note("fact", await world.search("fact"), map(str, accepted))
    await cutover.cut(world.service, world.migration)
    await cutover.release(world.service, world.migration)
    sql = world.store.sql
    for table in ("embedding_failure", "bulk_batch", "vector_index"):
        assert await sql.fetchval(f"SELECT count(*) FROM engram.{table} WHERE space = 1") == 0
    reads.note("fact", await world.search("fact"), map(str, accepted))
    assert (reads.spaces["hashing:ngram-1@96"], reads.degraded) == (1, 0)
    # This process has polled the spaces last when there were two.
    assert world.service.spaces.all == [1, 2]
    victim = accepted.popitem()[0]
    assert (await world.store.client.delete(f"/v1/memories/{victim}")).status_code == 204
    counts = (await world.store.client.get("/v1/workspace")).json()["vectors"]
    assert counts == {"hashing:ngram-1@96": {"current": 8, "pending": 0, "dead": 0}}
    listed = (await world.store.client.get("/v1/memories")).json()["items"]
    assert [item["embedded"] for item in listed] == [True] * 8
    await world.check.all((2,), accepted, [victim])
    await cutover.release(world.service, await world.reread())
    with pytest.raises(ConflictError, match="old space is gone"):
        await cutover.rollback(world.service, world.migration)


async def test_stores_of_a_retired_space_refuse(world: Moving) -> None:
    record = await world.store.post("likes green tea")
    await world.store.sql.execute("UPDATE engram.space SET state = 'retired' WHERE id = 1")
    text = Text(world.store.workspace, UUID(record["id"]), 2, record["content"], 0)
    async with world.service.pool.acquire() as connection, connection.transaction():
        assert await vectors.defer(connection, [text], 1) == 0


async def test_records_say_whether_they_are_embedded_where_they_are_read(
    database_url: str, nats_url: str, superuser_url: str
) -> None:
    async with moving(database_url, nats_url, superuser_url, embedder=False) as world:
        only_new = await world.store.post("likes green tea", namespace="user:a")
        only_old = await world.store.post("likes black tea", namespace="user:b")
        await _embed(world, only_new, 2)
        await _embed(world, only_old, 1)
        await world.store.sql.execute(
            "UPDATE engram.namespace SET read_space = 2 WHERE name = 'user:a'"
        )
        client = world.store.client
        listed = (await client.get("/v1/memories")).json()["items"]
        assert [item["embedded"] for item in listed] == [True, True]
        lines = (await client.get("/v1/export?embedded=true")).text.strip().splitlines()
        assert sum('"embedded":true' in line for line in lines) == 2, lines
        await world.store.sql.execute("UPDATE engram.namespace SET read_space = NULL")
        listed = (await client.get("/v1/memories")).json()["items"]
        assert [item["embedded"] for item in listed] == [False, True]


async def test_an_abort_takes_readers_back_and_drops_what_the_migration_made(
    world: Moving,
) -> None:
    accepted = await filled(world)
    # Read early, through an adapter.
    await world.store.sql.execute(
        "UPDATE engram.namespace SET read_space = 2 WHERE name = 'user:a'"
    )
    await cutover.abort(world.service, world.migration)
    assert await world.reads(*NAMESPACES) == [1, 1, 1]
    assert await world.check.tables() == [1]
    await world.check.all((1,), accepted)
    await cutover.abort(world.service, await world.reread())


Step = Callable[[Service, Any], Awaitable[Any]]


@pytest.mark.parametrize("verb", ["cut", "rollback", "release", "abort"])
async def test_a_kill_at_every_step_leaves_something_that_a_repeat_completes(
    world: Moving, verb: str
) -> None:
    accepted = await filled(world, each=1)
    act: Step = getattr(cutover, verb)
    ends = {"cut": [2, 2, 2], "rollback": [1, 1, 1], "release": [2, 2, 2], "abort": [1, 1, 1]}
    kills = 0
    for step in range(100):
        if verb in ("rollback", "release"):
            await cutover.cut(world.service, world.migration)
        if verb == "cut":
            await cutover.rollback(world.service, world.migration)
        try:
            await act(dying(world.service, step), await world.reread())
        except KilledError:
            kills += 1
        else:
            break
        # Whatever was left behind, everybody finds everything.
        reads = Reads(world.keys)
        for namespace in (*NAMESPACES, None):
            standing = {str(k) for k, t in accepted.items() if namespace is None or namespace in t}
            reads.note("fact", await world.search("fact", namespace), standing)
        if verb in ("release", "abort"):
            await world.check.nothing_lost(accepted)
        await act(world.service, await world.reread())
        assert await world.reads(*NAMESPACES) == ends[verb]
        await world.check.pointers_are_sound()
        if verb in ("release", "abort") and len(await world.check.tables()) == 1:
            break
    assert kills >= 1
    left = [1] if verb == "abort" else [2] if verb == "release" else [1, 2]
    assert await world.check.tables() == left
    await eventually(lambda: _settled(world, left, accepted), 30)


async def _settled(world: Moving, spaces: list[int], accepted: dict[UUID, str]) -> bool:
    await world.check.all(spaces, accepted)
    return True


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
async def test_a_release_killed_at_a_later_step_is_completed_by_a_repeat(
    world: Moving, step: int
) -> None:
    accepted = await filled(world, each=1)
    await cutover.cut(world.service, world.migration)
    try:
        await cutover.release(dying(world.service, step), world.migration)
    except KilledError:
        found = await world.search("fact")
        assert (len(found["results"]), found["degraded"]) == (3, False)
    await cutover.release(world.service, await world.reread())
    assert await world.check.tables() == [2]
    await world.check.all((2,), accepted)


async def many(world: Moving, namespaces: int) -> None:
    """Put three memories with vectors in both spaces into each of so many namespaces."""
    sql, workspace = world.store.sql, world.store.workspace
    await sql.execute(
        "INSERT INTO engram.namespace (workspace, name) "
        "SELECT $1, 'user:' || n FROM generate_series(1, $2) AS n",
        *(workspace, namespaces),
    )
    await sql.execute(
        "INSERT INTO engram.memory (workspace, id, namespace, version, state, content, "
        "content_sha256, metadata, categories, importance, pinned, source, created_at, "
        "updated_at, versioned_at, versioned_by, reinforced_at) "
        "SELECT $1, gen_random_uuid(), 'user:' || n, 1, 'active', 'fact ' || k, '', '{}', '{}', "
        "0.5, false, 'native', now(), now(), now(), 'test', now() "
        "FROM generate_series(1, $2) AS n, generate_series(1, 3) AS k",
        *(workspace, namespaces),
    )
    for space, dimensions in ((1, 64), (2, 96)):
        await sql.execute(
            f"INSERT INTO engram_vec.space_{space} "
            "(workspace, namespace, memory_id, version, embedding) "
            "SELECT workspace, namespace, id, 1, array_fill(1, ARRAY[$1::int])::halfvec "
            "FROM engram.memory",
            dimensions,
        )
    await sql.execute("ANALYZE")


@pytest.mark.parametrize("namespaces", [1_500, pytest.param(10_000, marks=pytest.mark.chaos)])
async def test_many_namespaces_are_cut_over_without_a_failed_or_mixed_read(
    world: Moving, namespaces: int
) -> None:
    await many(world, namespaces)
    stop, reads = asyncio.Event(), {"hashing:ngram-1@64": 0, "hashing:ngram-1@96": 0}

    async def reading() -> None:
        number = 0
        while not stop.is_set():
            number = number % namespaces + 1
            found = await world.search("fact 1", f"user:{number}")
            assert (len(found["results"]), found["degraded"]) == (3, False)
            reads[found["space"]] += 1

    reader = asyncio.create_task(reading())
    done = await cutover.cut(world.service, world.migration)
    await eventually(lambda: reads["hashing:ngram-1@96"] > 0, 20)
    stop.set()
    await reader
    assert done.namespaces == namespaces
    assert await world.default() == 2
    await world.check.pointers_are_sound()
