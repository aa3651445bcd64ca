"""Statements one after another, each made ready while Postgres is at the one before."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from engram.storage.connection import Connection

Statement = tuple[str, Sequence[Any]]
"""SQL and its arguments."""


async def execute_in_turn(connection: Connection, statements: Iterable[Statement]) -> None:
    """Execute statements in their order; the first that fails ends it.

    Args:
        connection: in a transaction; nobody else uses it meanwhile.
        statements: best a generator: what it does between two of them costs no time of its own.
    """
    under_way: asyncio.Task[str] | None = None
    try:
        for sql, arguments in statements:
            if under_way is not None:
                await under_way
            under_way = asyncio.create_task(connection.execute(sql, *arguments))
            # One turn of the loop sends it; the next arguments are made only then.
            await asyncio.sleep(0)
        if under_way is not None:
            await under_way
    finally:
        if under_way is not None and not under_way.done():
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
