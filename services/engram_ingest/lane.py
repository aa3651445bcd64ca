"""The order of ingest commands: creates share a group commit, a change waits for all before it."""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import structlog

from engram import events, metrics, tracing
from engram.errors import BusyError, EngramError, UnavailableError
from engram.storage.commands import (
    DeadLetter,
    Keep,
    apply_changes,
    bury,
    bury_with,
    workspace_exists,
)
from engram.storage.connection import Connection, about, reachable
from engram.storage.idempotency import Answer, Key
from engram.storage.writing import Outcome, Write
from engram_ingest.commands import Command, decode_command
from engram_ingest.doors import Doors
from engram_ingest.forgetting import is_done, remember
from engram_ingest.letters import of_change, of_items, of_message, of_outcomes

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    order: int
    subject: str
    data: bytes
    done: "asyncio.Future[None]"
    traceparent: str = ""


class CommandLane:
    """Writes commands in the order they were fetched; a finished `write` means durable.

    Args:
        doors: where to write.
    """

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._known: set[UUID] = set()

    async def write(self, subject: str, data: bytes, order: int = 0) -> None:
        """Return when the command's memories, or its dead letters, are committed.

        Args:
            subject: names the workspace.
            data: the message.
            order: its place in the stream; what waits together is written in that order.

        Raises:
            UnavailableError, BusyError: not now; the message must come again.
        """
        waiting = _Waiting(
            *(order, subject, data, asyncio.get_running_loop().create_future()), tracing.current()
        )
        self._queue.append(waiting)
        self._arrived.set()
        await waiting.done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            taken = sorted(self._queue, key=lambda waiting: waiting.order)
            self._queue.clear()
            for _, group in itertools.groupby(taken, key=_may_share):
                await asyncio.gather(*(self._settle(waiting) for waiting in group))

    async def _settle(self, waiting: _Waiting) -> None:
        try:
            with tracing.span("write command", follows=[waiting.traceparent]):
                await self._handle(waiting.subject, waiting.data)
        except Exception as error:  # noqa: BLE001 - the message's own handler reports it
            if not waiting.done.done():
                waiting.done.set_exception(error)
        else:
            if not waiting.done.done():
                waiting.done.set_result(None)

    async def _handle(self, subject: str, data: bytes) -> None:
        try:
            command = decode_command(subject, data)
            await self._require_workspace(command.workspace)
        except (UnavailableError, BusyError):
            raise
        except EngramError as error:
            letters = [of_message(await self._named(subject), subject, error, data)]
            await bury(self._doors.service.pool, letters)
            self._tell(letters)
            return
        self._tell(await self.store(command, subject, data))

    async def _require_workspace(self, workspace: UUID) -> None:
        if workspace in self._known:
            return
        if not await workspace_exists(self._doors.service.pool, workspace):
            raise EngramError(
                "unknown_workspace",
                "The subject names no workspace of this store.",
                cure="Publish on engram.v1.ingest.<workspace id>, as `engram status` shows it.",
            )
        self._known.add(workspace)

    async def _named(self, subject: str) -> UUID | None:
        """Return the workspace a subject names, so that it sees what was put aside; else None."""
        try:
            workspace = UUID(events.workspace_of_ingest_subject(subject))
            await self._require_workspace(workspace)
        except (UnavailableError, BusyError):
            raise
        except EngramError:
            return None
        return workspace

    async def store(
        self, command: Command, subject: str, data: bytes, keep: Keep = bury_with
    ) -> list[DeadLetter]:
        """Write what is good and, in the same transaction, the dead letters of what is not.

        Args:
            command: as decoded from ``data``.
            subject: it came on.
            data: the message.
            keep: writes the dead letters; called even when there are none.

        Raises:
            UnavailableError, BusyError: not now; nothing was written.
        """
        bad = of_items(command, subject, data)
        if command.creates or command.puts:
            return await self._create(command, subject, data, bad, keep)
        if command.changes:
            return await self._change(command, subject, bad, keep)
        await self._keep(command, bad, keep)
        return bad

    async def _keep(self, command: Command, letters: Sequence[DeadLetter], keep: Keep) -> None:
        async with about(self._doors.pool, [command.workspace]) as connection:
            await keep(connection, letters)

    async def _create(
        self,
        command: Command,
        subject: str,
        data: bytes,
        bad: Sequence[DeadLetter],
        keep: Keep,
    ) -> list[DeadLetter]:
        letters: list[DeadLetter] = []

        async def render(
            connection: Connection, outcomes: Sequence[Outcome]
        ) -> Answer | EngramError:
            letters[:] = [*bad, *of_outcomes(command, subject, outcomes)]
            await keep(connection, letters)
            return Answer(200, b"")

        doors = self._doors
        items = tuple(command.puts) or doors.arriving(command.workspace, command.creates, "create")
        write = Write(
            command.workspace, items, _actor(command), render, command.key, command.sha256
        )
        try:
            answer = await doors.committer.submit(write)
        except (UnavailableError, BusyError):
            raise
        except EngramError as error:
            letters = [of_message(command.workspace, subject, error, data)]
            await self._keep(command, letters, keep)
            return letters
        if not answer.replayed:
            stored = len(items) - len(letters) + len(bad)
            metrics.INGESTED.labels("nats", "created").inc(stored)
        return letters

    async def _change(
        self, command: Command, subject: str, bad: Sequence[DeadLetter], keep: Keep
    ) -> list[DeadLetter]:
        letters: list[DeadLetter] = []

        async def settle(connection: Connection, refusals: Sequence[EngramError | None]) -> None:
            letters[:] = [
                *bad,
                *(
                    of_change(command, subject, change, error)
                    for change, error in zip(command.changes, refusals, strict=True)
                    if error is not None and not is_done(change, error)
                ),
            ]
            await keep(connection, letters)

        doors = self._doors
        await remember(doors, command, _actor(command))
        refusals = await apply_changes(
            doors.pool,
            Key(command.workspace, command.key),
            command.sha256,
            [(change.target, change.changes) for change in command.changes],
            settle,
            actor=_actor(command),
            now=datetime.now(UTC),
        )
        doors.service.relay.wake()
        metrics.INGESTED.labels("nats", command.kind).inc(refusals.count(None))
        return letters

    async def give_up(self, subject: str, data: bytes) -> None:
        """Put a message aside that failed for reasons nobody foresaw, too often to go on.

        Raises:
            UnavailableError: Postgres cannot be reached.
        """
        error = EngramError("internal", "The server failed on it.", cure="Look into its log.")
        async with reachable():
            letters = [of_message(await self._named(subject), subject, error, data)]
            await bury(self._doors.service.pool, letters)
        self._tell(letters)

    def _tell(self, letters: Sequence[DeadLetter]) -> None:
        metrics.DEAD_LETTERS.labels("ingest").inc(len(letters))
        metrics.INGESTED.labels("nats", "dead_letter").inc(len(letters))
        for letter in letters:
            log.warning("command put aside", code=letter.code, workspace=letter.workspace)


def _may_share(waiting: _Waiting) -> object:
    # Only creates may be written side by side; anything else is a group of its own.
    return True if b"engram.memory.create.v1" in waiting.data else id(waiting)


def _actor(command: Command) -> str:
    return f"nats:{command.source}"[:200]
