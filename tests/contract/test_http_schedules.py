"""The table of sweeps over HTTP and on the command line: for operators, of the whole system."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from engram.errors import UsageError
from engram.storage.sweeps import ensure_sweeps
from engram_cli.commands.schedule import _interval, _seconds
from engram_curator.schedule import Duty, run_one
from engram_curator.service import duties
from tests.support.store import Store, client_of, open_store

HOUR = timedelta(hours=1)


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        async with opened.service.pool.acquire() as connection:
            every = {name: duty.every for name, duty in duties().items()}
            await ensure_sweeps(connection, every)
        yield opened


async def schedule(store: Store, name: str) -> dict[str, Any]:
    answer = await store.client.get(f"/v1/schedules/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_every_sweep_is_listed_and_decay_is_daily(store: Store) -> None:
    found = (await store.client.get("/v1/schedules")).json()
    assert [item["name"] for item in found["items"]] == sorted(duties())
    decay = await schedule(store, "decay")
    assert (decay["every_s"], decay["enabled"], decay["running"]) == (86_400, True, False)
    assert (decay["last_outcome"], decay["last_duration_s"]) == (None, None)


async def test_how_the_last_run_went_is_shown(store: Store) -> None:
    async def fine(_: object) -> None:
        """Do what a sweep without work does."""

    async def fails(_: object) -> None:
        raise ValueError("secret")

    for work, outcome, error in ((fine, "ok", None), (fails, "failed", "ValueError")):
        await store.client.post("/v1/schedules/decay/run")
        assert await run_one(store.service, {"decay": Duty(HOUR, work)}) == "decay"
        shown = await schedule(store, "decay")
        assert (shown["last_outcome"], shown["last_error"]) == (outcome, error)
        assert 0 <= shown["last_duration_s"] < 5


async def test_an_interval_is_changed_and_the_next_run_moves_with_it(store: Store) -> None:
    await run_one(store.service, {"decay": duties()["decay"]})
    answer = await store.client.patch("/v1/schedules/decay", json={"every_s": 7_200})
    assert (answer.status_code, answer.json()["every_s"]) == (200, 7_200)
    wait = await store.sql.fetchval(
        "SELECT next_due - last_started FROM engram.sweep WHERE name = 'decay'"
    )
    assert wait == timedelta(hours=2)


async def test_a_sweep_that_is_off_is_not_run_until_it_is_on(store: Store) -> None:
    table = {"decay": duties()["decay"]}
    answer = await store.client.patch("/v1/schedules/decay", json={"enabled": False})
    assert answer.json()["enabled"] is False
    refused = await store.client.post("/v1/schedules/decay/run")
    assert (refused.status_code, refused.json()["code"]) == (409, "schedule_off")
    assert await run_one(store.service, table) is None
    await store.client.patch("/v1/schedules/decay", json={"enabled": True})
    assert await run_one(store.service, table) == "decay"


async def test_a_sweep_is_run_now(store: Store) -> None:
    table = {"decay": duties()["decay"]}
    assert await run_one(store.service, table) == "decay"
    assert await run_one(store.service, table) is None
    assert (await store.client.post("/v1/schedules/decay/run")).status_code == 200
    assert await run_one(store.service, table) == "decay"


async def test_what_cannot_be_is_refused(store: Store) -> None:
    for body, pointer in (
        ({}, ""),
        ([], ""),
        ({"every": 5}, "/every"),
        ({"every_s": 0.5}, "/every_s"),
        ({"every_s": True}, "/every_s"),
        ({"every_s": 1e9}, "/every_s"),
        ({"every_s": None}, "/every_s"),
        ({"enabled": "no"}, "/enabled"),
    ):
        answer = await store.client.patch("/v1/schedules/decay", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), body
    for answer in (
        await store.client.get("/v1/schedules/none"),
        await store.client.patch("/v1/schedules/none", json={"enabled": True}),
        await store.client.post("/v1/schedules/none/run"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "schedule_not_found")


async def test_every_route_needs_the_scope_operator(store: Store) -> None:
    key = await store.key_of(store.workspace, ["memories"])
    async with client_of(store.app, key) as reader:
        for method, path in (
            ("GET", "/v1/schedules"),
            ("GET", "/v1/schedules/decay"),
            ("PATCH", "/v1/schedules/decay"),
            ("POST", "/v1/schedules/decay/run"),
        ):
            answer = await reader.request(method, path, json={"enabled": False})
            assert answer.status_code == 403, path
    assert (await schedule(store, "decay"))["enabled"] is True


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30min", 1_800), ("1.5h", 5_400), ("1d", 86_400), ("2w", 1_209_600)],
)
def test_intervals_are_read_and_written_for_people(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds
    assert _seconds(_interval(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "1 day", "-1d", "1e3s"])
def test_what_is_no_interval_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        _seconds(text)
