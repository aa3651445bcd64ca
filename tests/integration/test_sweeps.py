"""The sweep table: one holder at a time, leases that end, failures written down."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from engram.serving.process import Service, background
from engram.storage import sweeps
from engram_curator.expiry import expire
from engram_curator.schedule import Duty, run_one, run_schedule
from tests.support.store import Store, open_store
from tests.support.wait import eventually

HOUR = timedelta(hours=1)


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def ensure(store: Store, **every: timedelta) -> None:
    async with store.service.pool.acquire() as connection:
        await sweeps.ensure_sweeps(connection, every)


async def claim(store: Store, *names: str, lease: timedelta = HOUR) -> str | None:
    async with store.service.pool.acquire() as connection:
        return await sweeps.claim_sweep(connection, uuid4(), lease, names)


async def nothing(_: Service) -> None:
    """Do what a sweep without work does."""


async def test_a_due_sweep_is_claimed_by_exactly_one_of_many(store: Store) -> None:
    await ensure(store, reconcile=HOUR)
    claimed = await asyncio.gather(*(claim(store, "reconcile") for _ in range(20)))
    assert sorted(filter(None, claimed)) == ["reconcile"]


async def test_the_longest_overdue_sweep_comes_first_and_only_known_ones(store: Store) -> None:
    await ensure(store, one=HOUR, two=HOUR, three=HOUR)
    await store.sql.execute(
        "UPDATE engram.sweep SET next_due = now() - interval '1 hour' WHERE name = 'two'"
    )
    assert await claim(store, "one", "two") == "two"
    assert await claim(store, "one", "two") == "one"
    assert await claim(store, "one", "two") is None


async def test_a_claim_whose_lease_ended_is_another_ones(store: Store) -> None:
    await ensure(store, one=HOUR)
    first, second = uuid4(), uuid4()
    async with store.service.pool.acquire() as connection:
        tiny = timedelta(milliseconds=1)
        assert await sweeps.claim_sweep(connection, first, tiny, ["one"]) == "one"
        await store.sql.execute("UPDATE engram.sweep SET lease_until = now() - interval '1 s'")
        assert await sweeps.claim_sweep(connection, second, HOUR, ["one"]) == "one"
        assert await sweeps.extend_lease(connection, "one", first, HOUR) is False
        assert await sweeps.extend_lease(connection, "one", second, HOUR) is True
        await sweeps.finish_sweep(connection, "one", first, None)
    assert await store.sql.fetchval("SELECT lease_holder FROM engram.sweep") == second


async def test_a_finished_sweep_is_due_an_interval_later(store: Store) -> None:
    await ensure(store, one=HOUR)
    assert await run_one(store.service, {"one": Duty(HOUR, nothing)}) == "one"
    row = await store.sql.fetchrow(
        "SELECT next_due - now() AS wait, lease_holder, last_error FROM engram.sweep"
    )
    assert timedelta(minutes=59) < row["wait"] <= HOUR
    assert (row["lease_holder"], row["last_error"]) == (None, None)
    assert await run_one(store.service, {"one": Duty(HOUR, nothing)}) is None


async def test_a_sweep_that_fails_is_written_down_and_runs_again_next_time(store: Store) -> None:
    await ensure(store, one=HOUR)

    async def fails(_: Service) -> None:
        raise ValueError("secret text")

    assert await run_one(store.service, {"one": Duty(HOUR, fails)}) == "one"
    async with store.service.pool.acquire() as connection:
        [sweep] = await sweeps.list_sweeps(connection)
        assert (sweep.last_error, sweep.every_s) == ("ValueError", 3600.0)
        await sweeps.due_now(connection, "one")
    assert await run_one(store.service, {"one": Duty(HOUR, nothing)}) == "one"
    assert await store.sql.fetchval("SELECT last_error FROM engram.sweep") is None


async def test_a_sweep_made_due_while_it_runs_runs_once_more(store: Store) -> None:
    await ensure(store, one=HOUR)

    async def again(service: Service) -> None:
        async with service.pool.acquire() as connection:
            await sweeps.due_now(connection, "one")

    assert await run_one(store.service, {"one": Duty(HOUR, again)}) == "one"
    assert await run_one(store.service, {"one": Duty(HOUR, nothing)}) == "one"
    assert await run_one(store.service, {"one": Duty(HOUR, nothing)}) is None


async def test_an_interval_a_person_set_survives_a_restart(store: Store) -> None:
    await ensure(store, one=HOUR)
    await store.sql.execute("UPDATE engram.sweep SET every = '2 days', next_due = 'infinity'")
    async with background(run_schedule(store.service, {"one": Duty(HOUR, nothing),
                                                      "two": Duty(HOUR, nothing)})):  # fmt: skip

        async def ran() -> bool:
            sql = "SELECT last_finished FROM engram.sweep WHERE name = 'two'"
            return await store.sql.fetchval(sql) is not None

        await eventually(ran)
    every = await store.sql.fetchval("SELECT every FROM engram.sweep WHERE name = 'one'")
    assert every == timedelta(days=2)


async def test_several_schedulers_run_a_due_sweep_once(store: Store) -> None:
    runs: list[str] = []

    async def counted(_: Service) -> None:
        runs.append("run")

    table = {"one": Duty(HOUR, counted)}
    async with background(*(run_schedule(store.service, table) for _ in range(4))):

        async def finished() -> bool:
            return await store.sql.fetchval("SELECT last_finished FROM engram.sweep") is not None

        await eventually(finished)
    assert runs == ["run"]


async def test_expiry_deletes_only_keys_older_than_a_day(store: Store) -> None:
    for key in ("old", "new"):
        await store.client.post(
            "/v1/memories", json={"content": key}, headers={"Idempotency-Key": key}
        )
    await store.sql.execute(
        "UPDATE engram.idempotency SET created_at = now() - interval '25 hours' WHERE key = 'old'"
    )
    await expire(store.service)
    rows = await store.sql.fetch("SELECT key FROM engram.idempotency")
    assert [row["key"] for row in rows] == ["new"]
