"""Tries a transaction again when it lost a race with another one."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from engram.errors import UnavailableError
from engram.storage.connection import CONTENDED

T = TypeVar("T")

_TRIES = 5


class LostRaceError(Exception):
    """What a transaction decided on changed before it was locked; decide again."""


async def until_won(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what a whole transaction returns, begun anew after a deadlock or a lost race.

    Raises:
        UnavailableError: it lost five times in a row; nothing was written.
    """
    for _ in range(_TRIES):
        try:
            return await attempt()
        except (LostRaceError, *CONTENDED):
            continue
    raise UnavailableError(
        "contended",
        f"Others changed the same memories at the same moment, {_TRIES} times in a row.",
        cure="Send it again, with the same Idempotency-Key.",
        retry_after_s=1,
    )
