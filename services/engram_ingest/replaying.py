"""Tries dead letters again: failures of embedding become due, commands are written once more."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from engram.errors import EngramError, NotFoundError
from engram.storage import dead_letters
from engram.storage.commands import DeadLetter
from engram.storage.connection import Connection, about
from engram.storage.contention import until_won
from engram.storage.dead_letters import Letter, Payload, Place
from engram_ingest.authentication import Principal
from engram_ingest.commands import Command, decode_command
from engram_ingest.doors import Doors
from engram_ingest.lane import CommandLane
from engram_ingest.letters import of_message

# Of what may have been deleted a letter keeps no more than the name.
_CODES_OF_NAMES = ("external_id_deleted", "memory_not_found")


@dataclass(slots=True)
class Tally:
    """What became of the letters of one request.

    Attributes:
        done: replayed or discarded.
        dropped: failures whose memory is no longer live with the text that failed.
        errors: one for each letter that failed again, and each id that is unknown.
    """

    matched: int = 0
    done: int = 0
    dropped: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add_error(self, place: Place | str, code: str, detail: str) -> None:
        """Note why one letter could not be done."""
        self.errors.append({"id": str(place), "code": code, "detail": detail})


def unknown_letter() -> NotFoundError:
    """Return the one answer for ids that are unknown, discarded, replayed or foreign."""
    return NotFoundError(
        "dead_letter_not_found", "There is no such dead letter.", cure="List the dead letters."
    )


async def replay(doors: Doors, caller: Principal, places: Sequence[Place], tally: Tally) -> None:
    """Try these letters again and count what came of it.

    Raises:
        UnavailableError, BusyError: not now; what was not tried is left as it was.
    """
    failures, letters = dead_letters.split(places)
    if failures:
        await _revive(doors, caller, failures, tally)
    # One after the other, in the order they came: an update may follow its create.
    for place in letters:
        await _write_again(doors, caller.workspace, place)
    still = await _named(doors, caller.workspace, letters)
    for place, letter in still.items():
        tally.add_error(place, letter.error_class, letter.error)
    tally.done += len(letters) - len(still)


async def rehearse(doors: Doors, caller: Principal, places: Sequence[Place], tally: Tally) -> None:
    """Count what a replay would do as far as decoding tells, and change nothing."""
    failures, letters = dead_letters.split(places)
    async with about(doors.pool, [caller.workspace]) as connection:
        live = await dead_letters.live_failures(connection, caller.workspace, failures)
        for place in letters:
            payload = await dead_letters.payload_of(connection, caller.workspace, place.id)
            reason = _reason_not_to(payload) if payload else _reason(unknown_letter())
            if reason is None:
                tally.done += 1
            else:
                tally.add_error(place, *reason)
    tally.done += len(live)
    tally.dropped += len(failures) - len(live)


async def _revive(doors: Doors, caller: Principal, failures: Sequence[Place], tally: Tally) -> None:
    async def attempt() -> tuple[int, int]:
        async with about(doors.pool, [caller.workspace]) as connection:
            return await dead_letters.revive_failures(
                connection, caller.workspace, failures, caller.key_id
            )

    revived, dropped = await until_won(attempt)
    tally.done += revived
    tally.dropped += dropped


async def _named(doors: Doors, workspace: UUID, places: Sequence[Place]) -> dict[Place, Letter]:
    async with about(doors.pool, [workspace]) as connection:
        return await dead_letters.named(connection, workspace, places)


async def _write_again(doors: Doors, workspace: UUID, place: Place) -> None:
    """Send one letter through the strict decoder and the committer once more.

    The letter goes, or tells of what failed now, in the transaction that writes what is good. The
    key is made of the letter's id and how often it failed: two replays at once write once.
    """
    async with about(doors.pool, [workspace]) as connection:
        payload = await dead_letters.payload_of(connection, workspace, place.id)
    if payload is None or _is_a_name(payload):
        return

    async def keep(connection: Connection, rest: Sequence[DeadLetter]) -> None:
        await dead_letters.settle(connection, workspace, place.id, rest)

    try:
        command = _decode(payload, workspace)
    except EngramError as error:
        again = of_message(workspace, payload.subject, error, payload.data)
        async with about(doors.pool, [workspace]) as connection:
            await keep(connection, [again])
        return
    command.key = f"dead-letter-{place.id}-{payload.attempts}"
    await CommandLane(doors).store(command, payload.subject, payload.data, keep)


def _decode(payload: Payload, workspace: UUID) -> Command:
    command = decode_command(payload.subject, payload.data)
    if command.workspace != workspace:
        raise unknown_letter()
    return command


def _reason_not_to(payload: Payload) -> tuple[str, str] | None:
    """Return the code and detail with which decoding says that a replay is vain."""
    if _is_a_name(payload):
        return payload.code, payload.detail
    try:
        command = decode_command(payload.subject, payload.data)
    except EngramError as error:
        return _reason(error)
    good = command.creates or command.changes or command.puts
    return None if good else _reason(command.bad[0].error)


def _reason(error: EngramError) -> tuple[str, str]:
    return error.code, error.detail


def _is_a_name(payload: Payload) -> bool:
    return payload.code in _CODES_OF_NAMES and b'"specversion"' not in payload.data
