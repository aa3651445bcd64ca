"""Waiting for a condition instead of sleeping: poll until it holds or a deadline passes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")


async def eventually(
    check: Callable[[], Value | Awaitable[Value]],
    timeout_s: float = 30,
    every_s: float = 0.02,
) -> Value:
    """Return the first truthy result of ``check``, called again until ``timeout_s`` has passed.

    Args:
        check: plain or async; returns something truthy, or raises AssertionError, to be tried
            again. Any other exception ends the wait at once.
        timeout_s: seconds until the last failure is raised.
        every_s: seconds between two tries.

    Raises:
        AssertionError: the last one ``check`` raised, or that it kept returning a falsy value.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            result = check()
            value = await result if inspect.isawaitable(result) else result
            if value:
                return value
            failure = AssertionError(f"{check!r} still returned {value!r} after {timeout_s} s")
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        await asyncio.sleep(every_s)
