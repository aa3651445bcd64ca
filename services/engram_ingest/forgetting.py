"""Deletes of names that are not known yet: a tombstone, so that no late import revives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engram.domain.memory import NewMemory
from engram.errors import EngramError
from engram.storage.idempotency import Answer
from engram.storage.writing import Outcome, Write

if TYPE_CHECKING:
    from engram.storage.connection import Connection
    from engram_ingest.commands import Change, Command
    from engram_ingest.doors import Doors

_PLACEHOLDER = "(deleted before it came)"


async def remember(doors: Doors, command: Command, actor: str) -> None:
    """Give names that are not known, and whose delete is to be remembered, something to delete.

    What it stores is born superseded: never embedded, never found, and erased at once by the
    delete that follows. A name that is known is left as it is, so this may be done twice.

    Raises:
        UnavailableError, BusyError: not now.
    """
    names = [
        change.target
        for change in command.changes
        if change.remember and isinstance(change.target, tuple)
    ]
    if not names:
        return
    memories = [
        NewMemory(_PLACEHOLDER, "global", source=source, external_id=name, state="superseded")
        for source, name in names
    ]
    items = doors.arriving(command.workspace, memories, "skip")
    await doors.committer.submit(Write(command.workspace, items, actor, _nothing))


def is_done(change: Change, error: EngramError) -> bool:
    """Say whether a delete is done although it was refused: the memory was gone already."""
    return change.remember and error.code == "memory_not_found"


async def _nothing(_: Connection, __: Sequence[Outcome]) -> Answer | EngramError:
    return Answer(200, b"")
