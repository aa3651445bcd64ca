"""Moves the defaults of workspaces, and with them searches over several namespaces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from engram.serving.process import Service
from engram.storage import cutting
from engram.storage.connection import Connection
from engram.storage.cutting import HeldError, Way
from engram_migrator.fenced import retired

_WORKSPACES: Final = 200
_CLEARED: Final = 1_000
_HELD_S: Final = 1.0
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Defaults:
    """The defaults of some workspaces, and where they are to point.

    Attributes:
        workspaces: only these; None for all that read the old space.
        tail: of each namespace that follows the default so many of the newest vectors are looked
            at: what is older has been looked at, or has had its time.
    """

    service: Service
    way: Way
    workspaces: Sequence[UUID] | None
    tail: int

    async def move(
        self, apart: Collection[UUID] = (), *, patience_s: float = 60.0, force: bool = False
    ) -> tuple[int, int]:
        """Move them, page by page, and clear overrides that say the same afterwards.

        Args:
            apart: workspaces that stay as they are.
            patience_s: how long all of it may wait for the new space; each page waits for a
                second at most, and stores of the old space wait with it.
            force: after that move the others too.

        Returns:
            How many were moved, and how many would have lost something.

        Raises:
            ConflictError: the space to be read is retired.
        """
        deadline = asyncio.get_running_loop().time() + patience_s
        after: UUID | None = None
        moved = left = 0
        while some := await self._page(after):
            after = some[-1]
            wanted = [workspace for workspace in some if workspace not in apart]
            held_s = min(_HELD_S, max(0.0, deadline - asyncio.get_running_loop().time()))
            done = await self._held(wanted, held_s, force=force)
            moved, left = moved + len(done), left + len(wanted) - len(done)
        await self._clear_overrides()
        return moved, left

    async def _page(self, after: UUID | None) -> list[UUID]:
        async with self.service.pool.acquire() as connection:
            return await cutting.defaulting(
                connection, self.way.old, self.workspaces, after, _WORKSPACES
            )

    async def _held(self, workspaces: Sequence[UUID], held_s: float, *, force: bool) -> set[UUID]:
        """Move the defaults of some workspaces while nobody stores in the old space.

        A namespace that is made meanwhile has nothing in the old space that could be lost.
        """
        while workspaces:
            with contextlib.suppress(HeldError):
                async with (
                    cutting.impatient(self.service.pool) as connection,
                    connection.transaction(),
                ):
                    return await self._until_moved(connection, workspaces, held_s, force=force)
        return set()

    async def _until_moved(
        self, connection: Connection, workspaces: Sequence[UUID], held_s: float, *, force: bool
    ) -> set[UUID]:
        if not await cutting.hold(connection, self.way):
            raise retired()
        deadline, left = asyncio.get_running_loop().time() + held_s, set(workspaces)
        while left:
            late = asyncio.get_running_loop().time() >= deadline
            left -= set(
                await cutting.move_defaults(
                    connection, self.way, sorted(left), self.tail, force=force and late
                )
            )
            if late:
                break
            if left:
                await asyncio.sleep(_LOOK_S)
        return set(workspaces) - left

    async def _clear_overrides(self) -> None:
        """What is locked at this moment is left for the next time: it says the same anyway."""
        while True:
            async with self.service.pool.acquire() as connection:
                cleared = await cutting.clear_overrides(connection, self.way.new, _CLEARED)
            if cleared < _CLEARED:
                return
