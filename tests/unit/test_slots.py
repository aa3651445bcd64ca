"""Slots of a gate: handed out by the rule, and none is lost."""

import asyncio

import pytest

from engram.domain.lanes import Lane
from engram_embedder.slots import Slots


async def hold(slots: Slots, lane: Lane, name: str, order: list[str]) -> None:
    async with slots.slot(lane):
        order.append(name)
        await asyncio.sleep(0)


async def test_live_work_goes_first_and_bulk_gets_every_fifth_slot() -> None:
    slots, order = Slots(lambda: 1), []
    async with slots.slot("live"):
        waiting = [asyncio.create_task(hold(slots, "bulk", "b", order)) for _ in range(3)]
        waiting += [asyncio.create_task(hold(slots, "live", "l", order)) for _ in range(10)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert "".join(order) == "llllbllllbllb"


async def test_a_waiter_that_gives_up_neither_takes_nor_loses_a_slot() -> None:
    slots, order = Slots(lambda: 1), []
    async with slots.slot("live"):
        gone = asyncio.create_task(hold(slots, "live", "gone", order))
        stays = asyncio.create_task(hold(slots, "bulk", "stays", order))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
    await stays
    async with slots.slot("live"):
        late = asyncio.create_task(hold(slots, "live", "late", order))
        await asyncio.sleep(0)
    late.cancel()  # the slot is already its own, but it has not run yet
    with pytest.raises(asyncio.CancelledError):
        await late
    assert order == ["stays"]
    assert slots.in_flight == 0


async def test_a_shrunken_window_is_respected_as_slots_come_back() -> None:
    calls, order = 3, []
    slots = Slots(lambda: calls)
    held = [slots.slot("live") for _ in range(3)]
    for one in held:
        await one.__aenter__()
    calls = 1
    task = asyncio.create_task(hold(slots, "live", "x", order))
    for one in held[:2]:
        await one.__aexit__(None, None, None)
    await asyncio.sleep(0)
    assert order == []
    await held[2].__aexit__(None, None, None)
    await task
    assert order == ["x"]
