"""Moves namespaces from one space to another under a fence, some at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from engram.errors import ConflictError
from engram.serving.process import Service
from engram.storage import cutting
from engram.storage.cutting import HeldError, Name, Way

log = structlog.get_logger(__name__)

# A fence outlasts the patience of whoever set it by what one check may take: a flip refuses in the
# last three seconds of it.
_BEYOND: Final = timedelta(seconds=10)
_LOOK_S: Final = 0.02
# What has not come by itself by then is asked for: its bell may be with an embedder that died, and
# comes again only after longer than anybody is fenced.
_HURRY_EVERY_S: Final = 2.5
_HURRIED: Final = 1_000
_NOTHING: Final = timedelta()
# So far behind, no patience helps: the old space is not made to wait for it.
_HOPELESS: Final = 5_000


@dataclass(slots=True)
class Outcome:
    """What came of some namespaces.

    Attributes:
        flipped: they read the other space now.
        behind: they do not, and so many live current vectors were missing there.
    """

    flipped: list[Name] = field(default_factory=list)
    behind: dict[Name, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """One direction in which pointers are moved.

    Attributes:
        state: what the migration's record says of a namespace that was moved; None says nothing.
        patience_s: how long a namespace may be fenced.
    """

    service: Service
    migration: UUID
    way: Way
    state: str | None
    patience_s: float

    async def some(self, names: Sequence[Name]) -> Outcome:
        """Move namespaces that lose nothing by it; whole namespaces are looked at.

        Raises:
            ConflictError: the space to be read is retired.
        """
        after, outcome = await self._looked_through(names)
        if after:
            async with self.fenced(list(after)):
                await self._until_flipped(after, outcome)
        return outcome

    async def back(self, names: Sequence[Name], tail: int) -> Outcome:
        """Move namespaces, waiting no longer than the patience, and then in any case.

        Args:
            names: which.
            tail: only so many of the newest vectors of each are waited for.

        Raises:
            ConflictError: the space to be read is retired.
        """
        outcome = Outcome()
        async with self.fenced(names):
            if self.patience_s > 0:
                async with self.service.pool.acquire() as connection:
                    after = await cutting.tail(connection, self.way, names, tail)
                await self._until_flipped(after, outcome)
            left = set(names) - set(outcome.flipped)
            await self.force(left)
        outcome.flipped += left
        return outcome

    async def force(self, names: set[Name]) -> None:
        """Move namespaces whatever the other space lacks of them; to be called inside `fenced`.

        Raises:
            ConflictError: the space to be read is retired.
        """
        left = set(names)
        while left:
            # No vector lies above the highest number: nothing is looked at.
            flips = await self._flip(dict.fromkeys(left, 2**62), force=True)
            left -= {flip.name for flip in flips if flip.flipped}
            if left:
                left = await self._marked_again(left)

    async def _marked_again(self, names: set[Name]) -> set[Name]:
        await self._still_open()
        await self._retried(lambda connection: cutting.mark(connection, list(names)))
        async with self.service.pool.acquire() as connection:
            return set(await cutting.known(connection, list(names)))

    async def _looked_through(self, names: Sequence[Name]) -> tuple[dict[Name, int], Outcome]:
        """Return for each namespace up to which ``seq`` nothing is missing, before any fence.

        The numbers are read before the stores under way have ended, and the vectors after that: so
        nobody can store below those numbers any more.
        """
        async with self.service.pool.acquire() as connection:
            newest = await cutting.newest(connection, self.way, names)
        await self._fence(_NOTHING)
        async with self.service.pool.acquire() as connection:
            found = await cutting.lacking(connection, self.way, dict.fromkeys(names, 0))
        after, outcome = {}, Outcome()
        for name, (missing, first_seq) in found.items():
            if missing > _HOPELESS:
                outcome.behind[name] = missing
            else:
                first = newest[name] + 1 if first_seq is None else first_seq
                after[name] = min(newest[name], first - 1)
        return after, outcome

    @contextlib.asynccontextmanager
    async def fenced(self, names: Sequence[Name]) -> AsyncIterator[None]:
        """Keep the old space's stores out of these namespaces while inside."""
        try:
            # A fence that is left of the way back would keep the new space from ever catching up.
            await self._retried(lambda connection: cutting.unfence(connection, self.way.new))
            await self._retried(lambda connection: cutting.mark(connection, names))
            await self._fence(timedelta(seconds=self.patience_s) + _BEYOND)
            yield
        finally:
            # What was flipped is lifted already; after a crash the fence ends by itself.
            await self._retried(lambda connection: cutting.lift(connection, names))
            async with self.service.pool.acquire() as connection:
                await cutting.wake(connection, self.way.old)

    async def _until_flipped(self, after: Mapping[Name, int], outcome: Outcome) -> None:
        clock = asyncio.get_running_loop().time
        left, deadline, hurry_at = dict(after), clock() + self.patience_s, clock() + _HURRY_EVERY_S
        while left:
            for flip in await self._flip(left):
                if flip.flipped:
                    outcome.flipped.append(flip.name)
                    outcome.behind.pop(flip.name, None)
                    left.pop(flip.name)
                else:
                    outcome.behind[flip.name] = flip.missing
            if not left or clock() > deadline:
                return
            if clock() > hurry_at:
                hurry_at = clock() + _HURRY_EVERY_S
                await self._hurry(left)
            await self._still_open()
            await asyncio.sleep(_LOOK_S)

    async def _hurry(self, left: Mapping[Name, int]) -> None:
        # Whoever holds a memory must not hold up the others, which may be ready to flip.
        with contextlib.suppress(HeldError):
            async with cutting.impatient(self.service.pool) as connection:
                due = await cutting.hurry(connection, self.way, left, _HURRIED)
            log.info("asked again for what is lacking", space=self.way.new, memories=due)

    async def _flip(self, after: Mapping[Name, int], *, force: bool = False) -> list[cutting.Flip]:
        with contextlib.suppress(HeldError):
            async with cutting.impatient(self.service.pool) as connection:
                return await cutting.flip(
                    connection,
                    self.way,
                    after,
                    migration=self.migration,
                    state=self.state,
                    force=force,
                )
        return []

    async def _fence(self, lasting: timedelta) -> None:
        if not await self._retried(
            lambda connection: cutting.fence(connection, self.way.old, lasting)
        ):
            log.info("space is not written any more", space=self.way.old)

    async def _still_open(self) -> None:
        """See that the space to be read is one.

        Raises:
            ConflictError: it is retired or gone.
        """
        async with self.service.pool.acquire() as connection, connection.transaction():
            if not await cutting.is_open(connection, self.way.new):
                raise retired()

    async def _retried(self, act: cutting.Act[cutting.T]) -> cutting.T:
        """Do something that waits for no lock for long, until it is done."""
        while True:
            with contextlib.suppress(HeldError):
                async with cutting.impatient(self.service.pool) as connection:
                    return await act(connection)


def retired() -> ConflictError:
    """Return the error for a pointer to a space that takes no vectors."""
    return ConflictError(
        "space_retired",
        "The space is retired: nothing may read it any more.",
        cure="Plan a migration to another space.",
    )
