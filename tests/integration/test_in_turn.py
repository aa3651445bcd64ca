"""Statements in turn: in order, the first failure ends them, and the connection stays usable."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from engram.storage.connection import OwnConnection
from engram.storage.in_turn import Statement, execute_in_turn

INSERT = "INSERT INTO said (word) VALUES ($1)"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[OwnConnection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TEMP TABLE said (n serial, word text NOT NULL UNIQUE)")
    yield connection
    await connection.close()


async def said(connection: OwnConnection) -> list[str]:
    return [row["word"] for row in await connection.fetch("SELECT word FROM said ORDER BY n")]


async def test_they_are_executed_in_their_order(connection):
    await execute_in_turn(connection, [(INSERT, (word,)) for word in "engram"])
    assert await said(connection) == list("engram")


async def test_none_is_no_work(connection):
    await execute_in_turn(connection, [])
    assert await said(connection) == []


async def test_the_next_is_made_ready_while_one_is_under_way(connection, database_url):
    """The first waits for a lock that is let go only where the second is made ready."""
    await connection.execute("SELECT pg_advisory_lock(7)")
    waiting = await asyncpg.connect(database_url)

    def statements() -> Iterator[Statement]:
        yield "SELECT pg_advisory_lock($1::bigint)", (7,)
        letting_go.append(asyncio.create_task(connection.execute("SELECT pg_advisory_unlock(7)")))
        yield "SELECT $1::int", (1,)

    letting_go: list[asyncio.Task[str]] = []
    async with asyncio.timeout(10):
        await execute_in_turn(waiting, statements())
    await letting_go[0]
    await waiting.close()


async def test_the_first_failure_ends_them_and_is_raised_as_it_is(connection):
    asked: list[str] = []

    def statements() -> Iterator[Statement]:
        for word in ("a", "a", "b", "c"):
            asked.append(word)
            yield INSERT, (word,)

    with pytest.raises(asyncpg.UniqueViolationError):
        await execute_in_turn(connection, statements())
    # The third was made ready beside the second, and not sent.
    assert asked == ["a", "a", "b"]
    assert await said(connection) == ["a"]


async def test_arguments_that_cannot_be_made_leave_the_connection_usable(connection):
    def statements() -> Iterator[Statement]:
        yield "SELECT pg_sleep($1)", (30.0,)
        raise ValueError("no arguments")

    with pytest.raises(ValueError, match="no arguments"):
        async with connection.transaction():
            await execute_in_turn(connection, statements())
    assert await said(connection) == []


async def test_a_cancellation_leaves_the_connection_usable(connection):
    sent = asyncio.Event()

    def statements() -> Iterator[Statement]:
        yield INSERT, ("gone",)
        yield "SELECT pg_sleep($1)", (30.0,)
        sent.set()
        yield INSERT, ("never",)

    async def work() -> None:
        async with connection.transaction():
            await execute_in_turn(connection, statements())

    working = asyncio.create_task(work())
    await sent.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await said(connection) == []
