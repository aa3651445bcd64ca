"""Reading early: mapped vectors answer from the new space, count nowhere else, and are replaced."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest

from engram.domain.spaces import parse_embedding
from engram.errors import ConflictError
from engram.storage import adapting, migrating, reconciling
from engram.storage.adapting import Between
from engram.storage.connection import connect_owner
from engram.storage.migrating import Migration, NewMigration
from engram.storage.spaces import create_space
from engram.storage.vectors import Text, store_vectors, wanting
from engram_migrator import cutover
from engram_migrator.adapting import Adapting
from tests.support.migrating import backfilled, done, driving, planned
from tests.support.migrating_check import Checker
from tests.support.store import Store, open_store

OLD, NEW = 1, 2
BETWEEN = Between(OLD, NEW)
WORDS = (
    ("Ann", "Bob", "Carol", "Dave", "Erin"),
    ("often", "never", "always", "rarely"),
    ("buys", "sells", "paints", "mends", "cooks"),
    ("red bicycles", "old clocks", "fresh bread"),
    ("on Mondays", "in Paris"),
)
TEXTS = [" ".join(words) for words in itertools.product(*WORDS)]
LATE = TEXTS[-40:]


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, "hashing@128", superuser_url=superuser_url
    ) as opened:
        owner = await connect_owner(database_url)
        await create_space(owner, parse_embedding("hashing@64"), deterministic=True)
        await owner.close()
        await opened.service.spaces.refresh()
        yield opened


async def begun(store: Store, **options: object) -> Migration:
    """Store everything, embedded in the old space, all but the late ones in the new one too."""
    for user, texts in (("early", TEXTS[:-40]), ("late", LATE)):
        items = [{"content": text, "user_id": user} for text in texts]
        for start in range(0, len(items), 480):
            await store.import_(items[start : start + 480])
        await embedded(store, OLD, user)
    await embedded(store, NEW, "early")
    return await _recorded(store, {"adapter": True, **options})


async def embedded(store: Store, space: int, user: str) -> None:
    """Do what an embedder does for everything of a user."""
    sql = "SELECT workspace, id, version, content FROM engram.memory WHERE user_id = $1"
    texts = [Text(*row, 0) for row in await store.sql.fetch(sql, user)]
    provider = store.service.spaces.provider(space)
    for start in range(0, len(texts), 64):
        part = texts[start : start + 64]
        made = (await provider.embed([text.content for text in part], "document")).vectors
        async with store.service.pool.acquire() as connection, connection.transaction():
            await store_vectors(connection, part, made, space, datetime.now(UTC))


async def vectors(store: Store, space: int, where: str = "true") -> int:
    sql = f"SELECT count(*) FROM engram_vec.space_{space} WHERE {where}"
    return int(await store.sql.fetchval(sql))


async def _recorded(store: Store, options: dict[str, object]) -> Migration:
    keys = ("hashing:ngram-1@128", "hashing:ngram-1@64")
    new = NewMigration(OLD, NEW, *keys, None, store.workspace, "test", options, {"rows": 1_000})
    async with store.service.pool.acquire() as connection, connection.transaction():
        made = await migrating.create(connection, new)
        current = await migrating.read(connection, made)
        for phase in ("dual_write", "backfill"):
            await migrating.enter(connection, current, phase, actor="test")
        await connection.executemany(
            "INSERT INTO engram.migration_namespace (migration, workspace, namespace, state) "
            "VALUES ($1, $2, $3, $4)",
            [
                (made, store.workspace, "user:early", "complete"),
                (made, store.workspace, "user:late", "waiting"),
            ],
        )
        return await migrating.read(connection, made)


async def run(store: Store, migration: Migration) -> Adapting:
    steps = Adapting(store.service, migration.id)
    while await steps.step(migration):
        pass
    return steps


async def search(store: Store, query: str, user: str = "late") -> dict[str, Any]:
    body = {"query": query, "namespace": f"user:{user}", "limit": 5}
    answer: dict[str, Any] = (await store.client.post("/v1/memories/search", json=body)).json()
    return answer


async def test_a_namespace_is_read_in_the_new_space_before_its_backfill_is_done(
    store: Store,
) -> None:
    migration = await begun(store)
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@128"
    await run(store, migration)
    found = await search(store, LATE[3])
    assert found["space"] == "hashing:ngram-1@64"
    assert not found["degraded"]
    assert found["results"][0]["memory"]["content"] == LATE[3]
    async with store.service.pool.acquire() as connection:
        assert await adapting.standing(connection, migration.id, BETWEEN) == (40, 1)
        judged = await adapting.judged(connection, migration.id)
    assert judged is not None
    assert judged["worth_reading"]
    assert judged["overlap"] > judged["overlap_waiting"]
    shown = (await store.client.get(f"/v1/migrations/{migration.id}")).json()
    assert shown["progress"]["adapter"] == judged
    phases = await store.sql.fetchval("SELECT array_agg(DISTINCT phase) FROM engram.namespace")
    assert phases == ["steady"]


async def test_what_an_adapter_made_counts_as_missing_until_the_real_vector_replaces_it(
    store: Store,
) -> None:
    migration = await begun(store)
    await run(store, migration)
    late = await store.sql.fetch("SELECT workspace, id FROM engram.memory WHERE user_id = 'late'")
    ids = [(row["workspace"], row["id"]) for row in late]
    async with store.service.pool.acquire() as connection:
        assert len(await wanting(connection, ids, NEW)) == 40
    record = (await store.client.get(f"/v1/memories/{ids[0][1]}")).json()
    assert record["embedded"] is False
    await embedded(store, NEW, "late")
    assert await vectors(store, NEW, "version < 0") == 0
    assert await vectors(store, NEW) == len(TEXTS)
    assert (await search(store, LATE[3]))["results"][0]["score"] > 0.999


async def test_without_the_option_or_with_a_wish_to_grant_nothing_is_adapted(
    store: Store,
) -> None:
    migration = await begun(store, adapter=False)
    await run(store, migration)
    wished = replace(migration, options={"adapter": True}, wish={"verb": "verify", "at": "now"})
    await run(store, wished)
    await run(store, replace(wished, wish=None, paused=True))
    assert await vectors(store, NEW, "version < 0") == 0


async def test_a_changed_or_erased_memory_loses_its_mapped_vector(store: Store) -> None:
    migration = await begun(store)
    await run(store, migration)
    found = (await search(store, LATE[0]))["results"]
    first, second = (hit["memory"]["id"] for hit in found[:2])
    await store.client.patch(f"/v1/memories/{first}", json={"content": "Something else."})
    await store.client.delete(f"/v1/memories/{second}")
    left = {hit["memory"]["id"] for hit in (await search(store, LATE[0]))["results"]}
    assert not left & {first, second}
    assert await vectors(store, NEW, "version < 0") == 39
    again = Adapting(store.service, migration.id)
    await again.step(migration)
    assert await vectors(store, NEW, "version = -1") == 39


async def test_reconcile_leaves_what_an_adapter_made_where_it_is(store: Store) -> None:
    migration = await begun(store)
    await run(store, migration)
    await store.sql.execute("UPDATE engram.memory SET versioned_at = now() - interval '1 hour'")
    async with (
        store.service.pool.acquire() as connection,
        reconciling.differing(connection, NEW, 64, 0) as pages,
    ):
        kinds = [difference.kind async for page in pages for difference in page]
    assert set(kinds) == {"missing"}
    assert await vectors(store, NEW, "version < 0") == 40


async def test_a_map_worse_than_waiting_is_kept_and_not_used(store: Store) -> None:
    migration = await begun(store)
    # Other texts' vectors: what the two spaces have in common is gone.
    await store.sql.execute(
        "UPDATE engram_vec.space_2 v SET embedding = o.embedding FROM ("
        "  SELECT a.memory_id, b.embedding"
        "  FROM (SELECT memory_id, row_number() OVER (ORDER BY memory_id) AS n"
        "        FROM engram_vec.space_2) a"
        "  JOIN (SELECT embedding, row_number() OVER (ORDER BY md5(memory_id::text)) AS n"
        "        FROM engram_vec.space_2) b USING (n)) AS o WHERE o.memory_id = v.memory_id"
    )
    await run(store, migration)
    async with store.service.pool.acquire() as connection:
        judged = await adapting.judged(connection, migration.id)
    assert judged is not None
    assert not judged["worth_reading"]
    assert await vectors(store, NEW, "version < 0") == 0
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@128"


async def test_a_step_that_was_cut_short_is_done_by_the_next(store: Store) -> None:
    migration = await begun(store)
    steps = Adapting(store.service, migration.id)
    assert await steps.step(migration)
    broken = patch("engram.storage.cutting.flip", side_effect=ConnectionError)
    with broken, pytest.raises(ConnectionError):
        await steps.step(migration)
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@128"
    await run(store, migration)
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@64"


async def test_too_few_pairs_are_rung_for_first(store: Store) -> None:
    migration = await begun(store)
    await store.sql.execute("DELETE FROM engram_vec.space_2")
    steps = Adapting(store.service, migration.id)
    assert not await steps.step(migration)
    assert not await steps.step(migration)
    queued = "SELECT coalesce(sum(cardinality(ids)), 0) FROM engram.bulk_batch WHERE space = 2"
    assert await store.sql.fetchval(queued) == len(TEXTS)


async def test_what_is_read_early_can_go_back_at_once_and_is_cut_over_like_the_rest(
    store: Store,
) -> None:
    migration = await begun(store)
    await run(store, migration)
    await cutover.rollback(store.service, migration)
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@128"
    await run(store, migration)
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@64"
    with pytest.raises(ConflictError):
        # Mapped vectors are no vectors: the rest of the namespace is still to be embedded.
        await cutover.cut(store.service, migration, patience_s=0.1)
    await embedded(store, NEW, "late")
    await cutover.cut(store.service, migration)
    states = await store.sql.fetch("SELECT DISTINCT state FROM engram.migration_namespace")
    assert [row["state"] for row in states] == ["cut_over"]
    assert (await search(store, LATE[3]))["space"] == "hashing:ngram-1@64"
    overrides = "SELECT count(*) FROM engram.namespace WHERE read_space IS NOT NULL"
    assert await store.sql.fetchval(overrides) == 0


async def test_a_whole_migration_with_an_adapter_ends_without_a_mapped_vector(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with (
        open_store(
            database_url, nats_url, "hashing@128", superuser_url=superuser_url, embedder=True
        ) as store,
        driving(store),
    ):
        for start in range(0, len(TEXTS), 300):
            await store.import_(
                [
                    {"content": text, "user_id": f"u{number % 7}"}
                    for number, text in enumerate(TEXTS[start : start + 300])
                ]
            )
        plan = await planned(store, "hashing@64", adapter=True)
        await done(store, plan, "start")
        await backfilled(store, plan)
        await done(store, plan, "verify")
        assert (await done(store, plan, "cutover"))["phase"] == "cut_over"
        assert await vectors(store, NEW, "version < 0") == 0
        back = await done(store, plan, "rollback")
        # Going back holds: nothing is read early again by itself.
        assert (back["phase"], back["options"]["adapter"]) == ("verified", False)
        assert (await done(store, plan, "cutover"))["phase"] == "cut_over"
        await Checker(store.sql).all([1, 2])
