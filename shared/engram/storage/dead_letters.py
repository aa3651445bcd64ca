"""Dead letters in the database: failures of embedding and ingest commands that were put aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from engram.storage import auditing
from engram.storage.auditing import Entry
from engram.storage.commands import DeadLetter, bury_with
from engram.storage.connection import Connection
from engram.storage.queries import statement
from engram.storage.records import as_time

Kind = Literal["embedding", "ingest"]
KINDS: tuple[Kind, ...] = ("embedding", "ingest")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The name of a dead letter, in the order in which they are listed.

    An embedding failure is named by its memory and space (``<memory id>.<space>``), a letter of
    ingest by an id of its own (``<id>``): no memory has the same, both being uuids version 7.

    Attributes:
        id: of the memory, or of the letter.
        space: 1 to 8, 0 for a letter of ingest.
    """

    id: UUID
    space: int = 0

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read a name as `__str__` writes it.

        Raises:
            ValueError: it is no such name.
        """
        written, dot, space = text.partition(".")
        if dot and space not in {"1", "2", "3", "4", "5", "6", "7", "8"}:
            raise ValueError(text)
        return cls(UUID(written), int(space or 0))

    def __str__(self) -> str:
        return f"{self.id}.{self.space}" if self.space else str(self.id)


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, without what it carries.

    Attributes:
        error_class: the class of an embedding error, or the code of an ingest error.
        attempts: times it failed since it was last replayed (embedding), or ever (ingest).
        discarded_at: when a person gave it up; such a one is kept and not tried again.
    """

    place: Place
    kind: Kind
    error_class: str
    error: str
    attempts: int
    first_at: datetime
    last_at: datetime
    discarded_at: datetime | None
    memory_id: UUID | None
    space: str | None
    subject: str | None

    def described(self, now: datetime) -> dict[str, Any]:
        """Return the public JSON shape; ``age_s`` counts from the first failure."""
        return {
            "id": str(self.place),
            "kind": self.kind,
            "class": self.error_class,
            "error": self.error,
            "attempts": self.attempts,
            "first_at": as_time(self.first_at),
            "last_at": as_time(self.last_at),
            "age_s": round(max(0.0, (now - self.first_at).total_seconds()), 3),
            "discarded_at": as_time(self.discarded_at),
            "memory_id": str(self.memory_id) if self.memory_id else None,
            "space": self.space,
            "subject": self.subject,
        }


@dataclass(frozen=True, slots=True)
class Payload:
    """What a letter of ingest carries, and how often it failed."""

    subject: str
    code: str
    detail: str
    attempts: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; None means any."""

    kind: Kind | None = None
    error_class: str | None = None
    discarded: bool = False


async def page(
    connection: Connection, workspace: UUID, chosen: Filter, after: Place, limit: int
) -> list[Letter]:
    """Return up to ``limit`` dead letters after a place, in order."""
    found: list[Letter] = []
    for kind, name, columns in (
        ("embedding", "failure_page", "failure_columns"),
        ("ingest", "letter_page", "letter_columns"),
    ):
        if chosen.kind not in (None, kind):
            continue
        found += await _letters(
            connection,
            *(name, columns, workspace, after.id, after.space, chosen.error_class),
            *(chosen.discarded, limit),
        )
    return sorted(found, key=lambda letter: letter.place)[:limit]


async def named(
    connection: Connection, workspace: UUID, places: Sequence[Place]
) -> dict[Place, Letter]:
    """Return those of these dead letters that exist, discarded ones too."""
    failures, letters = split(places)
    found: list[Letter] = []
    if failures:
        columns = [place.id for place in failures], [place.space for place in failures]
        found += await _letters(
            connection, "failures_named", "failure_columns", workspace, *columns
        )
    if letters:
        ids = [place.id for place in letters]
        found += await _letters(connection, "letters_named", "letter_columns", workspace, ids)
    return {letter.place: letter for letter in found}


async def _letters(
    connection: Connection, name: str, columns: str, *arguments: Any
) -> list[Letter]:
    sql = statement("dead_letter", name).replace("{columns}", statement("dead_letter", columns))
    return [
        Letter(Place(at_id, at_space), *rest)
        for at_id, at_space, *rest in await connection.fetch(sql, *arguments)
    ]


def split(places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Return the failures of embedding and the letters of ingest, each in order and once."""
    ordered = sorted(set(places))
    return [p for p in ordered if p.space], [p for p in ordered if not p.space]


async def payload_of(connection: Connection, workspace: UUID, letter_id: UUID) -> Payload | None:
    """Return what a letter of ingest carries; None when there is no such letter."""
    row = await connection.fetchrow(statement("dead_letter", "payload"), workspace, letter_id)
    return Payload(*row) if row else None


async def live_failures(
    connection: Connection, workspace: UUID, failures: Sequence[Place]
) -> list[Place]:
    """Return those whose memory is live and still has the text that failed."""
    rows = await connection.fetch(
        statement("dead_letter", "live_failures"), workspace, *_columns(failures)
    )
    return [Place(*row) for row in rows]


async def revive_failures(
    connection: Connection, workspace: UUID, failures: Sequence[Place], actor: str
) -> tuple[int, int]:
    """Make failures due at once; return how many that was and how many were dropped.

    Dropped are those whose memory changed, was archived or merged since: a changed text has
    attempts of its own, and what becomes live again is found by reconcile.
    """
    ids = [place.id for place in failures]
    await connection.fetch(statement("dead_letter", "lock_memories"), workspace, ids)
    live = set(await live_failures(connection, workspace, failures))
    stale = [place for place in failures if place not in live]
    revived = await _touch(connection, workspace, "revive_failures", sorted(live))
    dropped = await _touch(connection, workspace, "drop_failures", stale)
    if revived or dropped:
        counts = {"replayed": revived, "dropped": dropped}
        entry = Entry(workspace, actor, "dead_letters.replayed", counts=counts)
        await auditing.record(connection, entry)
    return revived, dropped


async def discard(
    connection: Connection, workspace: UUID, places: Sequence[Place], actor: str
) -> int:
    """Give dead letters up and return how many there were.

    A letter of ingest is deleted. A failure of embedding stays as a row that says so, because its
    memory is still live: without the row reconcile would send it to the provider again.
    """
    failures, letters = split(places)
    done = await _touch(connection, workspace, "discard_failures", failures)
    if letters:
        ids = [place.id for place in letters]
        gone = await connection.fetch(statement("dead_letter", "remove_letters"), workspace, ids)
        done += len(gone)
    if done:
        entry = Entry(workspace, actor, "dead_letters.discarded", counts={"letters": done})
        await auditing.record(connection, entry)
    return done


async def _touch(
    connection: Connection, workspace: UUID, name: str, failures: Sequence[Place]
) -> int:
    if not failures:
        return 0
    sql = statement("dead_letter", name)
    return len(await connection.fetch(sql, workspace, *_columns(failures)))


def _columns(failures: Sequence[Place]) -> tuple[list[UUID], list[int]]:
    return [place.id for place in failures], [place.space for place in failures]


async def settle(
    connection: Connection, workspace: UUID, letter_id: UUID, rest: Sequence[DeadLetter]
) -> None:
    """End a replay in the transaction that wrote what was good: nothing is lost or doubled.

    Args:
        connection: of that transaction.
        workspace: of the letter.
        letter_id: the letter that was replayed.
        rest: what failed again. The letter goes when nothing did; else it tells of the first,
            and further ones get letters of their own.
    """
    if not rest:
        sql = statement("dead_letter", "remove_letters")
        await connection.fetch(sql, workspace, [letter_id])
        return
    first, *further = rest
    sql = statement("dead_letter", "fail_again")
    found = await connection.fetch(
        sql, workspace, letter_id, first.code, first.detail, first.payload
    )
    # None found: it was discarded meanwhile, with all it carried.
    if found:
        await bury_with(connection, further)
