"""Taking a store's import runner over: from then on the test says what its slots do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from engram_ingest.import_runner import SLOTS
from tests.support.store import Store
from tests.support.wait import eventually

Duty = Callable[[], Awaitable[bool]]


async def take_over(store: Store, duty: Duty) -> Duty:
    """Let the runner do ``duty`` instead of its work; return what it did before.

    Waits until every slot has come to ``duty``: a slot still asking for a job would take the one
    that the test is about to queue.
    """
    runner = store.app.state.doors.runner
    before: Duty = runner.work_once
    came: set[asyncio.Task[Any] | None] = set()

    async def instead() -> bool:
        came.add(asyncio.current_task())
        return await duty()

    runner.work_once = instead
    runner.wake()
    await eventually(lambda: len(came) == SLOTS)
    return before


async def hold(store: Store) -> Duty:
    """Let the runner do nothing; return what it did before."""

    async def nothing() -> bool:
        return False

    return await take_over(store, nothing)
