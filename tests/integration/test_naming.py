"""External ids under which new rows are found: one row for each, whoever comes at the same time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from engram.domain.arrival import Arriving, Decision, Strategy, arriving
from engram.domain.memory import decode_item
from engram.storage.connection import about
from engram.storage.contention import LostRaceError
from engram.storage.ids import new_id
from engram.storage.storing import store_all
from tests.support.store import Store, open_store
from tests.support.wait import eventually

NOW = datetime.now(UTC)


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


def item(store: Store, content: str, name: str, strategy: Strategy, **fields: Any) -> Arriving:
    memory = decode_item({"content": content, "external_id": name, **fields}, imported=True)
    return arriving(store.workspace, new_id(), memory, strategy, NOW)


async def stored(store: Store, *items: Arriving) -> list[Decision]:
    async with about(store.app.state.doors.pool, [store.workspace]) as connection:
        return await store_all(connection, [(one, "test") for one in items], NOW)


@contextlib.asynccontextmanager
async def about_to_store(store: Store, one: Arriving) -> AsyncIterator[None]:
    """Hold a transaction open that has stored an item."""
    async with about(store.app.state.doors.pool, [store.workspace]) as connection:
        await store_all(connection, [(one, "test")], NOW)
        yield


async def waiting(store: Store) -> bool:
    return bool(
        await store.sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
    )


async def named(store: Store) -> dict[str, str]:
    """Return the text of the memory behind each name; every row that has a name has its own."""
    rows = await store.sql.fetch(
        "SELECT a.external_id AS name, m.content, m.external_id = a.external_id AS own "
        "FROM engram.memory_alias a LEFT JOIN engram.memory m ON m.id = a.memory_id"
    )
    assert all(row["own"] for row in rows)
    named_rows = "SELECT count(*) FROM engram.memory WHERE external_id IS NOT NULL"
    assert await store.sql.fetchval(named_rows) == len(rows)
    return {row["name"]: row["content"] for row in rows}


async def test_who_brings_a_name_that_another_one_is_storing_waits_and_finds_it(
    store: Store,
) -> None:
    first = item(store, "tea", "x", "skip", namespace="a")
    async with about_to_store(store, first):
        second = asyncio.create_task(stored(store, item(store, "ale", "x", "skip", namespace="b")))
        await eventually(lambda: waiting(store))
    [decision] = await second
    assert decision.kind == "present"
    assert decision.target is not None
    assert decision.target.id == first.id
    assert await named(store) == {"x": "tea"}


async def test_a_name_that_was_given_up_is_new_for_who_waited(store: Store) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with about_to_store(store, item(store, "tea", "x", "create", namespace="a")):
            ale = item(store, "ale", "x", "create", namespace="b")
            second = asyncio.create_task(stored(store, ale))
            await eventually(lambda: waiting(store))
            raise ZeroDivisionError
    [decision] = await second
    assert decision.kind == "insert"
    assert await named(store) == {"x": "ale"}


async def test_a_merge_that_looked_before_the_name_was_given_decides_again(store: Store) -> None:
    async with about_to_store(store, item(store, "tea", "x", "merge", namespace="a")):
        ale = item(store, "ale", "x", "merge", namespace="b")
        second = asyncio.create_task(stored(store, ale))
        await eventually(lambda: waiting(store))
    with pytest.raises(LostRaceError):
        await second
    [decision] = await stored(store, ale)
    assert decision.kind == "update"
    assert await named(store) == {"x": "ale"}


@pytest.mark.parametrize("strategy", ["create", "skip", "merge"])
async def test_a_batch_names_what_is_new_in_it_and_only_that(
    store: Store, strategy: Strategy
) -> None:
    await stored(store, item(store, "tea", "1", strategy), item(store, "ale", "2", strategy))
    decisions = await stored(
        store,
        item(store, "tea", "2", strategy),  # known, another text
        item(store, "wine", "3", strategy),
        item(store, "gin", "3", strategy),  # named a moment ago
        item(store, "wine", "4", strategy),  # a repeat under a name of its own
        item(store, "tea", "1", strategy),
    )
    changed = {"create": "clash", "skip": "present", "merge": "update"}[strategy]
    again = "absorb" if strategy != "merge" else "insert"
    kinds = [decision.kind for decision in decisions]
    assert kinds == [changed, "insert", changed, again, "present"]
    third = {"1": "tea", "2": "tea", "3": "gin", "4": "wine"}
    kept = {"1": "tea", "2": "ale", "3": "wine", "4": "wine"}
    assert await named(store) == (third if strategy == "merge" else kept)


async def test_a_name_first_brought_by_a_merge_is_not_claimed_for_a_later_item(
    store: Store,
) -> None:
    decisions = await stored(
        store, item(store, "tea", "1", "merge"), item(store, "ale", "1", "skip")
    )
    assert [decision.kind for decision in decisions] == ["insert", "present"]
    assert await named(store) == {"1": "tea"}


async def test_a_record_that_is_here_under_its_id_leaves_its_new_name_unused(
    store: Store,
) -> None:
    [first] = await stored(store, item(store, "tea", "1", "skip"))
    [own] = await store.sql.fetch("SELECT id FROM engram.memory")
    again = item(store, "tea", "2", "skip", id=str(own["id"]))
    assert [first.kind, *[d.kind for d in await stored(store, again)]] == ["insert", "present"]
    assert await named(store) == {"1": "tea"}
