"""Waits until every memory of the workspace has its vector, or never will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engram.client import AsyncClient

_POLL_S: Final = 0.5


async def wait_until_embedded(client: AsyncClient, on_progress: Callable[[int, int], None]) -> None:
    """Return when nothing is pending in any space; a memory that failed for good is not waited for.

    Args:
        client: asks the workspace.
        on_progress: told how many vectors are current, and how many there will be.

    Raises:
        EngramError: the server cannot be asked any more.
    """
    while True:
        counts = (await client.workspace())["vectors"].values()
        current = sum(count["current"] for count in counts)
        pending = sum(count["pending"] for count in counts)
        on_progress(current, current + pending)
        if pending == 0:
            return
        await asyncio.sleep(_POLL_S)
