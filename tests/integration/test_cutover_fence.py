"""The fence of a cutover in ordered two-session tests: who waits for whom, and who is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from engram.errors import ConflictError
from engram.storage import cutting, vectors
from engram.storage.connection import Connection
from engram.storage.cutting import Way
from engram.storage.vectors import Text
from engram_migrator import cutover
from engram_migrator.defaults import Defaults
from engram_migrator.fenced import Move
from tests.support.moving import Moving, moving
from tests.support.wait import eventually

LASTING = timedelta(seconds=20)


@pytest.fixture
async def world(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Moving]:
    async with moving(database_url, nats_url, superuser_url, embedder=False) as made:
        yield made


async def store(connection: Connection, world: Moving, record: dict, space: int = 1) -> set:
    text = of(world, record)
    rows = np.asarray([world.right[space](record["content"])], dtype=np.float32)
    return await vectors.store_vectors(connection, [text], rows, space, datetime.now(UTC))


def of(world: Moving, record: dict) -> Text:
    content, version = record["content"], record["version"]
    return Text(world.store.workspace, UUID(record["id"]), version, content, 3)


async def embed(world: Moving, record: dict, *spaces: int) -> None:
    async with world.service.pool.acquire() as connection, connection.transaction():
        for space in spaces:
            assert await store(connection, world, record, space)


async def fence(world: Moving, *namespaces: str) -> None:
    async with world.service.pool.acquire() as connection:
        await cutting.mark(connection, [world.name(name) for name in namespaces])
        await cutting.fence(connection, 1, LASTING)


async def test_the_fence_waits_for_a_store_in_flight(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    async with world.service.pool.acquire() as connection:
        async with connection.transaction():
            assert await store(connection, world, record)
            fencing = asyncio.create_task(fence(world, "user:a"))
            done, _ = await asyncio.wait({fencing}, timeout=0.3)
            assert not done, "the fence did not wait for a vector that nobody could see yet"
        await fencing


async def test_a_store_that_began_before_the_fence_was_set_stores_nothing(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    pool = world.service.pool
    async with pool.acquire() as fencing, pool.acquire() as storing:
        async with fencing.transaction():
            await cutting.fence(fencing, 1, LASTING)

            async def late() -> set:
                async with storing.transaction():
                    return await store(storing, world, record)

            # Its snapshot is from before the mark; it waits for the locked row of the space.
            waiting = asyncio.create_task(late())
            await eventually(lambda: _is_waiting(world))
            async with pool.acquire() as marking:
                await cutting.mark(marking, [world.name("user:a")])
        assert await waiting == set()
        assert await world.store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1") == 0


async def _is_waiting(world: Moving) -> bool:
    sql = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return bool(await world.store.sql.fetchval(sql))


async def test_only_marked_namespaces_of_the_fenced_space_are_refused(world: Moving) -> None:
    cut = await world.store.post("likes green tea", namespace="user:a")
    other = await world.store.post("likes black tea", namespace="user:b")
    await fence(world, "user:a")
    async with world.service.pool.acquire() as connection, connection.transaction():
        assert await store(connection, world, cut) == set()
        assert await store(connection, world, other)
        assert await store(connection, world, cut, space=2)


async def test_what_is_refused_is_deferred_and_no_attempt_is_counted(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await fence(world, "user:a")
    async with world.service.pool.acquire() as connection:
        assert await vectors.defer(connection, [of(world, record)], 1) == 1
        row = await world.store.sql.fetchrow(
            "SELECT attempts, class, dead, next_attempt > now() AS waits "
            "FROM engram.embedding_failure"
        )
        assert dict(row) == {"attempts": 3, "class": "cutting", "dead": False, "waits": True}
        await cutting.lift(connection, [world.name("user:a")])
        await cutting.wake(connection, 1)
        due, _, _ = await vectors.due(connection, 1, UUID(int=0), 10)
        assert [text.attempts for text in due] == [3]
        async with connection.transaction():
            assert await store(connection, world, record)
    assert await world.store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure") == 0


async def test_what_changed_or_has_its_vector_is_not_deferred(world: Moving) -> None:
    has = await world.store.post("likes green tea", namespace="user:a")
    gone = await world.store.post("likes black tea", namespace="user:a")
    await embed(world, has, 1)
    await world.store.client.delete(f"/v1/memories/{gone['id']}")
    async with world.service.pool.acquire() as connection:
        assert await vectors.defer(connection, [of(world, has), of(world, gone)], 1) == 0


async def test_a_fence_ends_by_itself_when_its_owner_died(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    async with world.service.pool.acquire() as connection:
        await cutting.mark(connection, [world.name("user:a")])
        await cutting.fence(connection, 1, timedelta(milliseconds=300))

        async def stored() -> set:
            async with connection.transaction():
                return await store(connection, world, record)

        assert await stored() == set()
        await eventually(stored, 5)


async def test_nothing_is_flipped_while_the_new_space_lacks_a_vector(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await embed(world, record, 1)
    with pytest.raises(ConflictError, match="still read the old space"):
        await cutover.cut(world.service, world.migration, patience_s=0.2)
    assert await world.reads("user:a") == [1]
    await world.check.pointers_are_sound()
    await embed(world, record, 2)
    assert (await cutover.cut(world.service, world.migration)).namespaces == 1
    assert await world.reads("user:a") == [2]


async def test_a_delete_during_the_cutover_does_not_hold_it_up(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await embed(world, record, 1)
    cutting_over = asyncio.create_task(cutover.cut(world.service, world.migration, patience_s=20))
    await eventually(lambda: _fenced(world, "user:a"))
    assert (await world.store.client.delete(f"/v1/memories/{record['id']}")).status_code == 204
    assert (await cutting_over).namespaces == 1
    await world.check.none_revived([UUID(record["id"])])


async def test_a_write_during_the_cutover_goes_to_the_new_space_first(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    # What the new space lacks of this one keeps the fence up until the test lets it down.
    held = await world.store.post("plays the cello", namespace="user:a")
    await embed(world, record, 1)
    await embed(world, held, 1)
    cutting_over = asyncio.create_task(cutover.cut(world.service, world.migration, patience_s=20))
    await eventually(lambda: _fenced(world, "user:a"))
    answer = await world.store.client.patch(
        f"/v1/memories/{record['id']}", json={"content": "likes white tea"}
    )
    changed = answer.json()
    async with world.service.pool.acquire() as connection, connection.transaction():
        assert await store(connection, world, changed) == set(), "the old space got ahead again"
    # The old space's vector is stale now: nothing of it can be lost.
    await embed(world, held, 2)
    assert (await cutting_over).namespaces == 1
    await embed(world, changed, 1, 2)
    texts = {UUID(record["id"]): "likes white tea", UUID(held["id"]): "plays the cello"}
    await world.check.all((1, 2), texts, right=world.right)


async def test_a_fence_left_of_the_way_back_does_not_keep_the_new_space_behind(
    world: Moving,
) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await embed(world, record, 1)
    async with world.service.pool.acquire() as connection:
        await cutting.fence(connection, 2, LASTING)
    cutting_over = asyncio.create_task(cutover.cut(world.service, world.migration, patience_s=20))
    await eventually(lambda: _fenced(world, "user:a"))
    await embed(world, record, 2)
    assert (await cutting_over).namespaces == 1


async def _fenced(world: Moving, namespace: str) -> bool:
    sql = (
        "SELECT n.phase = 'cutting' AND p.fenced_until > now() "
        "FROM engram.namespace n, engram.space p WHERE n.name = $1 AND p.id = 1"
    )
    return bool(await world.store.sql.fetchval(sql, namespace))


async def test_no_pointer_moves_to_a_retired_space(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await embed(world, record, 1, 2)
    await world.store.sql.execute("UPDATE engram.space SET state = 'retired' WHERE id = 2")
    move = Move(world.service, world.migration.id, Way(1, 2), None, patience_s=5)
    with pytest.raises(ConflictError, match="retired"):
        await move.some([world.name("user:a")])
    with pytest.raises(ConflictError, match="retired"):
        await move.back([world.name("user:a")], 10)
    assert await world.reads("user:a") == [1]


async def test_a_flip_shortly_before_the_end_of_the_fence_is_refused(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await embed(world, record, 1, 2)
    name = world.name("user:a")
    async with world.service.pool.acquire() as connection:
        await cutting.mark(connection, [name])
        await cutting.fence(connection, 1, timedelta(seconds=2))
        options = {"migration": world.migration.id, "state": "cut_over"}
        [late] = await cutting.flip(connection, Way(1, 2), {name: 0}, **options)
        assert (late.missing, late.flipped) == (0, False)
        await cutting.fence(connection, 1, LASTING)
        [flip] = await cutting.flip(connection, Way(1, 2), {name: 0}, **options)
        assert flip.flipped


async def test_a_default_does_not_move_before_namespaces_that_came_since_are_there(
    world: Moving,
) -> None:
    record = await world.store.post("likes green tea", namespace="user:new")
    await embed(world, record, 1)
    defaults = Defaults(world.service, Way(1, 2), None, tail=10)
    assert await defaults.move(patience_s=0.2) == (0, 1)
    assert await world.default() == 1
    moving_on = asyncio.create_task(defaults.move(patience_s=20))
    await embed(world, record, 2)
    await moving_on
    assert await world.default() == 2


async def test_while_a_default_moves_nobody_stores_in_the_old_space(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:new")
    pool = world.service.pool
    async with pool.acquire() as holding, pool.acquire() as storing:
        async with holding.transaction():
            assert await cutting.hold(holding, Way(1, 2))

            async def late() -> set:
                async with storing.transaction():
                    return await store(storing, world, record)

            waiting = asyncio.create_task(late())
            await eventually(lambda: _is_waiting(world))
            moved = await cutting.move_defaults(holding, Way(1, 2), [world.store.workspace], 10)
            assert moved == [world.store.workspace]
            assert not waiting.done()
        # What it stores there now was never to be found, so nobody misses it.
        assert await waiting


async def test_rollback_gives_the_old_space_a_moment_for_the_newest_writes(world: Moving) -> None:
    record = await world.store.post("likes green tea", namespace="user:a")
    await embed(world, record, 2)
    await world.store.sql.execute("UPDATE engram.workspace SET read_space = 2")
    back = asyncio.create_task(cutover.rollback(world.service, world.migration, patience_s=30))
    done, _ = await asyncio.wait({back}, timeout=0.2)
    assert not done
    assert (await world.search("tea", "user:a"))["results"]
    await embed(world, record, 1)
    await back
    assert await world.default() == 1
