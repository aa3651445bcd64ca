"""The decay sweep archives what has faded, within its cap, and nothing that a clock has aged."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import nats
import pytest
from prometheus_client import REGISTRY

from engram.domain.decay import DEFAULT, is_due
from engram.domain.decay_settings import Override, Rule, Rules
from engram.events import decode_items_event
from engram.storage import decay_runs, decaying
from engram.storage.sweeps import ensure_sweeps
from engram_curator.decay import Watch, look_at_clock
from engram_curator.schedule import run_one
from engram_curator.service import duties
from tests.support.fading import aged, carry_out, in_state, last_run, sweep, with_vectors
from tests.support.store import Store, open_store
from tests.support.wait import eventually

LONG_AGO = 400.0


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def a_year_back(store: Store) -> None:
    """Put all that the database has written down a year before its clock."""
    for table, column in (("memory", "reinforced_at"), ("decay_clock", "seen_at")):
        await store.sql.execute(
            f"UPDATE engram.{table} SET {column} = {column} - '1 year'::interval"
        )


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_what_has_faded_is_archived_with_its_vectors_and_the_rest_stays(store: Store) -> None:
    old = await aged(store, 5, LONG_AGO)
    new = await aged(store, 5, 100, "user:b")
    await sweep(store)
    assert await in_state(store, "archived") == set(old)
    assert await in_state(store, "active") == await with_vectors(store) == set(new)
    run = await last_run(store)
    assert (run["state"], run["archived"], run["actor"]) == ("done", 5, "curator")
    assert run["slowed_namespaces"] == []
    versions = await store.sql.fetch("SELECT DISTINCT version FROM engram.memory")
    assert [row["version"] for row in versions] == [1]


async def test_only_what_is_archived_is_rewritten(store: Store) -> None:
    await aged(store, 5, LONG_AGO)
    await aged(store, 5, 100, "user:b")
    before = await store.sql.fetch("SELECT id, xmin::text, state FROM engram.memory ORDER BY id")
    await sweep(store)
    after = await store.sql.fetch("SELECT id, xmin::text, state FROM engram.memory ORDER BY id")
    changed = {b["id"] for b, a in zip(before, after, strict=True) if b["xmin"] != a["xmin"]}
    assert changed == await in_state(store, "archived")
    assert len(changed) == 5


async def test_a_sweep_without_anything_due_leaves_no_trace(store: Store) -> None:
    await aged(store, 5, 100)
    await sweep(store)
    assert await store.sql.fetchval("SELECT count(*) FROM engram.decay_run") == 0


async def test_pinned_ones_and_those_with_a_time_to_live_are_exempt(store: Store) -> None:
    hour = timedelta(hours=1)
    await aged(store, 2, LONG_AGO, "user:pinned", pinned=True)
    await aged(store, 2, LONG_AGO, "user:ttl", expires_at=datetime.now(UTC) + hour)
    await aged(store, 2, LONG_AGO, "user:over", expires_at=datetime.now(UTC) - hour)
    await sweep(store)
    assert await in_state(store, "archived") == set()


async def test_the_grace_begins_when_the_floor_is_reached(store: Store) -> None:
    # 0.5 reaches 0.05 after 99.66 days of a half-life of 30, and is kept for 30 more.
    kept = await aged(store, 1, 129, "user:kept")
    gone = await aged(store, 1, 130, "user:gone")
    await sweep(store)
    assert await in_state(store, "archived") == set(gone)
    assert await in_state(store, "active") == set(kept)


async def test_of_fifty_or_more_a_fifth_goes_in_one_run_and_the_alarm_rings(store: Store) -> None:
    large = await aged(store, 60, LONG_AGO, "user:large")
    small = await aged(store, 49, LONG_AGO, "user:small")
    rung = metric("engram_decay_slowed_namespaces_total")
    await sweep(store)
    archived = await in_state(store, "archived")
    assert len(archived & set(large)) == 12
    assert archived >= set(small)
    # The longest overdue first: the last of them was reinforced longest ago.
    oldest = await store.sql.fetch(
        "SELECT id FROM engram.memory WHERE namespace = 'user:large' "
        "ORDER BY reinforced_at LIMIT 12"
    )
    assert archived & set(large) == {row["id"] for row in oldest}
    run = await last_run(store)
    assert (run["slowed"], run["slowed_namespaces"]) == (1, ["user:large"])
    assert metric("engram_decay_slowed_namespaces_total") == rung + 1
    await sweep(store)
    assert len(await in_state(store, "archived")) == 49 + 12 + 48


async def test_settings_of_namespaces_are_what_the_sweep_goes_by(store: Store) -> None:
    fast = await aged(store, 2, 3, "session:1")
    await aged(store, 2, LONG_AGO, "user:kept")
    await aged(store, 2, 3, "user:b")
    for query, change in (
        ({"prefix": "session:"}, {"half_life_days": 0.1, "grace_days": 1}),
        ({"namespace": "user:kept"}, {"enabled": False}),
    ):
        answer = await store.client.patch("/v1/decay", params=query, json=change)
        assert answer.status_code == 200, answer.text
    await sweep(store)
    assert await in_state(store, "archived") == set(fast)


async def test_each_workspace_goes_by_its_own_settings(store: Store) -> None:
    other, _ = await store.other_workspace()
    mine = await aged(store, 2, 3)
    theirs = await aged(store, 2, 3, workspace=other)
    await store.client.patch("/v1/decay", json={"half_life_days": 0.1, "grace_days": 0})
    await sweep(store)
    assert await in_state(store, "archived") == set(mine)
    assert await in_state(store, "active") == set(theirs)


async def test_what_is_read_or_pinned_between_the_look_and_the_lock_stays(store: Store) -> None:
    read, pinned, gone = await aged(store, 3, LONG_AGO)
    async with store.service.pool.acquire() as connection:
        now = datetime.now(UTC)
        found = await decaying.survey(connection, {}, now)
        picked = await decaying.pick(connection, found, now, None)
        assert {one.id for one in picked.picks} == {read, pinned, gone}
        await store.sql.execute(
            "UPDATE engram.memory SET reinforced_at = now() WHERE id = $1", read
        )
        await store.sql.execute("UPDATE engram.memory SET pinned = true WHERE id = $1", pinned)
        run = await decay_runs.begin(connection, store.workspace, "test")
        assert run is not None
        async with connection.transaction():
            assert await decaying.archive(connection, run, picked.picks, now) == 1
    assert await in_state(store, "archived") == {gone}


async def test_a_database_picks_exactly_what_the_rule_says(store: Store) -> None:
    chance = random.Random(7)
    rules = Rules(
        [
            Rule("", True, Override(half_life_days=20, grace_days=5)),
            Rule("user:a", False, Override(floor=0.4)),
            Rule("user:c", True, Override(half_life_days=1, floor=0.9, grace_days=0)),
        ]
    )
    for _ in range(120):
        await aged(
            store,
            1,
            chance.uniform(0, 200),
            chance.choice(["user:a", "user:b", "user:c", "user:cc"]),
            importance=chance.choice([1e-6, 0.05, 0.2, 0.5, 0.9, 1.0]),
            pinned=chance.random() < 0.1,
        )
    now = datetime.now(UTC)
    rows = await store.sql.fetch("SELECT * FROM engram.memory")
    expected = {
        row["id"]
        for row in rows
        if is_due(
            row["importance"],
            row["reinforced_at"],
            now,
            rules.policy(row["namespace"]),
            pinned=row["pinned"],
        )
    }
    async with store.service.pool.acquire() as connection:
        found = await decaying.survey(connection, {store.workspace: rules}, now)
        picked = await decaying.pick(connection, found, now, None)
        counted = await decaying.count_due(connection, found, [now])
    assert {one.id for one in picked.picks} == expected
    assert 10 < len(expected) < 110
    assert sum(due for (due,) in counted.values()) == len(expected)


async def test_a_clock_that_is_set_forwards_archives_nothing(store: Store) -> None:
    await aged(store, 30, 10)
    watch = Watch()
    await look_at_clock(store.service, watch)
    before = metric("engram_decay_clock_set_total", direction="forwards")
    # What the database would show after its clock was set forwards: all it wrote down lies a year
    # back, while this process knows that next to no time has passed.
    await a_year_back(store)
    watch.seen_at = await store.sql.fetchval("SELECT seen_at FROM engram.decay_clock")
    await sweep(store, watch)
    assert await in_state(store, "archived") == set()
    assert metric("engram_decay_clock_set_total", direction="forwards") == before + 1
    withheld_s = await store.sql.fetchval("SELECT withheld_s FROM engram.decay_clock")
    assert withheld_s > 364 * 86_400
    # And a curator that has just started is no wiser, but as careful.
    await sweep(store, Watch())
    assert await in_state(store, "archived") == set()


async def test_a_year_in_which_nobody_looked_ages_nothing_by_more_than_26_hours(
    store: Store,
) -> None:
    await look_at_clock(store.service, Watch())
    nearly = await aged(store, 3, 128, "user:nearly")
    due = await aged(store, 3, 129, "user:due")
    await a_year_back(store)
    await sweep(store)
    assert await in_state(store, "archived") == set(due)
    assert await in_state(store, "active") == set(nearly)


async def test_an_interrupted_run_goes_on_under_its_own_cap(store: Store) -> None:
    await aged(store, 100, LONG_AGO)
    async with store.service.pool.acquire() as connection:
        now = datetime.now(UTC)
        run = await decay_runs.begin(connection, store.workspace, "curator")
        assert run is not None
        found = await decaying.survey(connection, {}, now)
        picked = await decaying.pick(connection, found, now, None)
        async with connection.transaction():
            await decaying.archive(connection, run, picked.picks[:15], now)
    await sweep(store)
    assert len(await in_state(store, "archived")) == 15  # the other run still holds its lease
    await store.sql.execute("UPDATE engram.decay_run SET lease_until = now() - interval '1 s'")
    await sweep(store)
    assert len(await in_state(store, "archived")) == 20
    assert (await last_run(store))["id"] == str(run.id)
    assert (await last_run(store))["state"] == "done"


async def test_what_another_process_left_is_carried_out_on_request(store: Store) -> None:
    await aged(store, 5, LONG_AGO)
    async with store.service.pool.acquire() as connection:
        assert await decay_runs.begin(connection, store.workspace, "curator") is not None
    await store.sql.execute("UPDATE engram.decay_run SET lease_until = now() - interval '1 s'")
    await carry_out(store)
    assert len(await in_state(store, "archived")) == 5
    assert (await last_run(store))["state"] == "done"


async def test_two_sweeps_at_once_archive_each_memory_once(store: Store) -> None:
    await aged(store, 100, LONG_AGO)
    await asyncio.gather(*(sweep(store) for _ in range(4)))
    entered = await store.sql.fetch("SELECT memory_id FROM engram.decay_archive")
    assert {row["memory_id"] for row in entered} == await in_state(store, "archived")
    assert len(entered) == len({row["memory_id"] for row in entered})


async def test_the_trouble_of_one_workspace_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = await store.other_workspace()
    await aged(store, 2, LONG_AGO)
    theirs = await aged(store, 2, LONG_AGO, workspace=other)
    real = decaying.pick

    async def fails(connection, found, now, run):
        if found[0].workspace == store.workspace:
            raise ValueError("trouble")
        return await real(connection, found, now, run)

    monkeypatch.setattr(decaying, "pick", fails)
    with pytest.raises(ValueError, match="trouble"):
        await sweep(store)
    assert await in_state(store, "archived") == set(theirs)


async def test_a_vector_that_is_written_while_its_memory_is_archived_does_not_stay(
    store: Store,
) -> None:
    [memory] = await aged(store, 1, LONG_AGO)
    await store.sql.execute("DELETE FROM engram_vec.space_1")
    async with store.service.pool.acquire() as writing, writing.transaction():
        # As the embedder does: the memory is share-locked, then its vector written.
        await writing.execute("SELECT 1 FROM engram.memory WHERE id = $1 FOR SHARE", memory)
        sweeping = asyncio.create_task(sweep(store))
        await _blocked(store)
        await writing.execute(
            "INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding) "
            "VALUES ($1, 'user:a', $2, 1, array_fill(1, ARRAY[256])::halfvec)",
            *(store.workspace, memory),
        )
    await sweeping
    assert await in_state(store, "archived") == {memory}
    assert await with_vectors(store) == set()


async def _blocked(store: Store) -> None:
    async def waits() -> bool:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await store.sql.fetchval(sql))

    await eventually(waits)


async def test_decay_is_in_the_table_of_sweeps_and_daily(store: Store) -> None:
    table = duties()
    assert table["decay"].every == timedelta(days=1)
    await aged(store, 2, LONG_AGO)
    ran = {await run_one(store.service, {"decay": table["decay"]})}
    assert ran == {None}  # not in the table yet
    async with store.service.pool.acquire() as connection:
        await ensure_sweeps(connection, {"decay": table["decay"].every})
    assert await run_one(store.service, {"decay": table["decay"]}) == "decay"
    assert len(await in_state(store, "archived")) == 2


async def test_archived_memories_are_announced_once_each(store: Store, nats_url: str) -> None:
    connection = await nats.connect(nats_url)
    subscription = await connection.subscribe("engram.v1.memory.archived")
    await connection.flush()
    ids = await aged(store, 5, LONG_AGO)
    await sweep(store)
    message = await subscription.next_msg(timeout=5)
    await connection.close()
    event = decode_items_event(message.data)
    assert sorted((UUID(id_), version) for id_, version in event.items) == [
        (id_, 1) for id_ in sorted(ids)
    ]


def test_the_default_policy_is_what_the_page_says() -> None:
    assert (DEFAULT.half_life_days, DEFAULT.floor, DEFAULT.grace_days) == (30.0, 0.05, 30.0)
