"""Queries go before documents, and no turn is lost."""

import asyncio

import pytest

from engram.embedding.turns import OVERTAKEN_AT_MOST, Turns


@pytest.fixture
def turns():
    return Turns()


async def hold(turns: Turns, rank: int, name: str, order: list[str]) -> None:
    async with turns.turn(rank):
        order.append(name)
        await asyncio.sleep(0)


async def test_queries_overtake_documents_and_equals_keep_their_order(turns):
    order: list[str] = []
    names = ["document 1", "document 2", "query 1", "document 3", "query 2"]
    await asyncio.gather(*(hold(turns, int("doc" in name), name, order) for name in names))
    assert order == ["document 1", "query 1", "query 2", "document 2", "document 3"]


async def test_a_waiter_cancelled_while_waiting_is_passed_over(turns):
    order: list[str] = []
    async with turns.turn(1):
        tasks = [asyncio.create_task(hold(turns, 1, str(n), order)) for n in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["1", "2"]


async def test_a_waiter_cancelled_just_as_its_turn_comes_passes_it_on(turns):
    order: list[str] = []
    async with turns.turn(1):
        tasks = [asyncio.create_task(hold(turns, 1, str(n), order)) for n in range(2)]
        await asyncio.sleep(0)
    tasks[0].cancel()  # the turn is already its own, but it has not run yet
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["1"]


async def test_an_error_in_a_turn_passes_it_on(turns):
    with pytest.raises(RuntimeError):
        async with turns.turn(0):
            raise RuntimeError
    async with asyncio.timeout(1), turns.turn(0):
        pass


async def test_a_storm_of_queries_leaves_a_floor_to_documents(turns):
    order: list[str] = []
    async with turns.turn(0):
        document = asyncio.create_task(hold(turns, 1, "document", order))
        await asyncio.sleep(0)
        queries = [asyncio.create_task(hold(turns, 0, "query", order)) for _ in range(50)]
        await asyncio.sleep(0)
    await asyncio.gather(document, *queries)
    assert order.index("document") == OVERTAKEN_AT_MOST
