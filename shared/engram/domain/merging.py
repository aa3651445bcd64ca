"""What a survivor carries for what it absorbed, and what it is left with when some of that goes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

from engram.domain.groups import Member, carried

_TIMES: Final = ("created_at", "reinforced_at", "last_accessed_at", "expires_at", "updated_at")
_NOBODY: Final = UUID(int=0)


class Row(Protocol):
    """What has values by name: a row of the store, or a mapping."""

    def __getitem__(self, name: str, /) -> Any:
        """Return one of them."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a memory that a merge touches; times are UTC."""

    importance: float
    access_count: int
    created_at: datetime
    reinforced_at: datetime
    last_accessed_at: datetime | None
    expires_at: datetime | None
    updated_at: datetime

    @classmethod
    def of(cls, row: Row) -> "Values":
        """Return the values of a row of memories."""
        return cls(*(row[name] for name in VALUE_NAMES))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Values":
        """Return what `to_json` wrote."""
        times = {name: _read_time(stored[name]) for name in _TIMES}
        return cls(**{**stored, **times})

    def to_json(self) -> dict[str, Any]:
        """Return the values as the ledger keeps them, exact to the microsecond."""
        return {
            name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in ((name, getattr(self, name)) for name in VALUE_NAMES)
        }


VALUE_NAMES: Final = tuple(field.name for field in fields(Values))
_COMPARED: Final = tuple(name for name in VALUE_NAMES if name != "access_count")


@dataclass(frozen=True, slots=True)
class Entry:
    """One merge in the history of a survivor.

    Attributes:
        before: of the survivor, when the merge came.
        after: what the merge left it with.
        parts: of those members that are still absorbed through this merge.
        at: when it was.
    """

    before: Values
    after: Values
    parts: tuple[Values, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Shift:
    """How what a merge left differs from what it would leave by what is still absorbed."""

    was: Values
    now: Values

    def moved(self, value: Values) -> Values:
        """Return a later value as it would be.

        A field that still is as the merge left it follows; one that was changed since stays as it
        is. Accesses are counted on top of what was there, so their number moves by the difference.
        """
        kept = {
            name: getattr(self.now, name)
            for name in _COMPARED
            if getattr(value, name) == getattr(self.was, name)
        }
        accesses = max(0, value.access_count - self.was.access_count + self.now.access_count)
        return replace(value, **kept, access_count=accesses)


def together(before: Values, parts: Sequence[Values], at: datetime) -> Values:
    """Return what a survivor carries: as `groups.carried` says, and the longest of their lives.

    Args:
        before: of the survivor.
        parts: of what it absorbs; without any the survivor stays as it is.
        at: when it absorbs them.
    """
    if not parts:
        return before
    sums = carried(_member(before), map(_member, parts))
    ends = [part.expires_at for part in (before, *parts)]
    return Values(
        sums.importance,
        sums.access_count,
        sums.created_at,
        sums.reinforced_at,
        sums.last_accessed_at,
        None if None in ends else max(end for end in ends if end is not None),
        at,
    )


def replayed(entries: Iterable[Entry]) -> tuple[list[Entry], Shift | None]:
    """Go through a survivor's merges again, each with what is still absorbed through it.

    Args:
        entries: all of one survivor, in the order in which they happened.

    Returns:
        The same merges as they would have been, and how what came after them moves. Done again, it
        moves nothing: what it returns is what the members left call for.
    """
    shift: Shift | None = None
    found = []
    for entry in entries:
        before = shift.moved(entry.before) if shift else entry.before
        after = together(before, entry.parts, entry.at)
        shift = Shift(entry.after, after)
        found.append(replace(entry, before=before, after=after))
    return found, shift


def disagreeing(metadatas: Iterable[Mapping[str, Any]]) -> str | None:
    """Return a key that two of these memories give different values, None where all agree."""
    said: dict[str, str] = {}
    for metadata in metadatas:
        for key, value in metadata.items():
            # As JSON, where true is not 1.
            text = json.dumps(value, sort_keys=True)
            if said.setdefault(key, text) != text:
                return key
    return None


def _member(values: Values) -> Member:
    return Member(
        _NOBODY,
        values.importance,
        values.created_at,
        values.reinforced_at,
        values.access_count,
        values.last_accessed_at,
    )


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
