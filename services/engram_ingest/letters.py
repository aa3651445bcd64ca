"""Dead letters of ingest: what is put aside of a command, ready to be sent again as it lies."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from engram import events
from engram.domain.fields import FIELDS
from engram.errors import EngramError
from engram.storage.changing import taken_external_id
from engram.storage.commands import DeadLetter, NeverKnownError
from engram.storage.writing import Outcome
from engram_ingest.commands import Change, Command
from engram_ingest.doors import deleted_external_id, refused

_MAX_DETAIL = 500
_MAX_SUBJECT = 500
_MAX_PAYLOAD_BYTES = 1024 * 1024


def of_message(
    workspace: UUID | None, subject: str, error: EngramError, payload: bytes
) -> DeadLetter:
    """Return the letter that keeps a message, or one item of it, and why it was refused."""
    detail = f"{error.detail} {error.cure}".strip()[:_MAX_DETAIL]
    # A subject may hold anything but white space, a text column no NUL.
    named = subject.replace("\0", "\\0")[:_MAX_SUBJECT]
    return DeadLetter("ingest", workspace, named, error.code, detail, payload[:_MAX_PAYLOAD_BYTES])


def of_items(command: Command, subject: str, message: bytes) -> list[DeadLetter]:
    """Return a letter for each item the decoder refused."""
    return [
        of_message(command.workspace, subject, bad.error, _payload(command, bad.value, message))
        for bad in command.bad
    ]


def of_outcomes(command: Command, subject: str, outcomes: Sequence[Outcome]) -> list[DeadLetter]:
    """Return a letter for each memory that was decoded and could not be stored."""
    letters = []
    for outcome in outcomes:
        error = _refusal(outcome)
        if command.kind == "put" and error is not None and error.code == "external_id_deleted":
            continue  # it came too late: the tombstone stands
        if error is not None:
            kept = _kept(command, outcome)
            letters.append(of_message(command.workspace, subject, error, kept))
    return letters


def of_change(command: Command, subject: str, change: Change, error: EngramError) -> DeadLetter:
    """Return the letter of an update or delete that could not be done."""
    return of_message(command.workspace, subject, error, _unchanged(command, change, error))


def _kept(command: Command, outcome: Outcome) -> bytes:
    memory = outcome.item.memory
    if outcome.decision is not None and outcome.decision.kind == "deleted":
        # What was deleted must not come back, not even in a letter: its name is enough.
        return orjson.dumps({"source": memory.source, "external_id": memory.external_id})
    fields = {field.name: getattr(memory, field.name) for field in FIELDS if field.writable}
    return _message(command, {name: value for name, value in fields.items() if value is not None})


def _unchanged(command: Command, change: Change, error: EngramError) -> bytes:
    if error.code == "memory_not_found" and not isinstance(error, NeverKnownError):
        # It may have been deleted: nothing more of it is kept than its name.
        return orjson.dumps(str(change.target))
    if isinstance(change.target, UUID):
        target = {"id": str(change.target)}
    else:
        target = dict(zip(("source", "external_id"), change.target, strict=True))
    return _message(command, {**target, **(change.changes or {})})


def _payload(command: Command, value: Any, message: bytes) -> bytes:
    try:
        return _message(command, value)
    except TypeError:
        pass
    try:
        # Deeper than orjson writes, not deeper than it reads.
        return json.dumps(_event(command, value), ensure_ascii=False).encode()
    except RecursionError:
        # As text, which no replay takes for an item: its neighbours were stored.
        return _message(command, message.decode())


def _message(command: Command, item: Any) -> bytes:
    """Return a command with one item: what is put aside can be sent again as it lies there."""
    return orjson.dumps(_event(command, item))


def _event(command: Command, item: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": command.key,
        "source": command.source,
        "type": events.COMMAND_TYPES[command.kind],
        "data": item,
    }


def _refusal(outcome: Outcome) -> EngramError | None:
    if outcome.decision is None:
        return refused(outcome)
    if outcome.decision.kind == "clash":
        return taken_external_id()
    return deleted_external_id() if outcome.decision.kind == "deleted" else None
