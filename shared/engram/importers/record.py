"""What reading a foreign file yields: one `Found` for each element, readable or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engram.errors import Fault

NOTHING: Mapping[str, Any] = MappingProxyType({})


# Neither is frozen: of both one is made for each element, and freezing costs twice the making.
@dataclass(slots=True)
class Found:
    """One element of an export.

    Attributes:
        index: position in the file, from 0, counting every element.
        line: line on which it starts, from 1; None when there are no lines.
        item: the native item (keys of the public memory record), or None with a fault.
        fault: why there is no item.
        external_id: the id under which a repeated import finds the item again; for a faulty
            element the foreign id when one could be read.
    """

    index: int
    line: int | None
    item: dict[str, Any] | None
    fault: Fault | None
    external_id: str | None


@dataclass(slots=True)
class Element:
    """One raw element on its way from a container to a format.

    Attributes:
        line: line on which it starts, from 1.
        path: the keys of the enclosing objects, ``("results",)`` or ``("alice", "results")``.
        owner: the key that a per-owner object files it under.
        value: the parsed JSON value, meaningless with a fault.
        fault: why it could not be read.
        member: name of the file of an archive that it lies in, ``""`` outside archives.
        known: what the format learnt from elsewhere in the export (`Format.learn`).
    """

    line: int | None
    path: tuple[str, ...] = ()
    owner: str | None = None
    value: Any = None
    fault: Fault | None = None
    member: str = ""
    known: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


class ItemError(ValueError):
    """A converter cannot make a memory of an element.

    Attributes:
        code: stable reason, such as ``empty`` or ``not_a_memory``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Warnings:
    """Counts what a user should know about a whole file; at most 50 kinds are kept.

    Args:
        placed: every memory goes to a namespace that was named, whoever owns it.
    """

    def __init__(self, *, placed: bool = False) -> None:
        self._counts: dict[str, int] = {}
        self._placed = placed

    def add(self, text: str, times: int = 1) -> None:
        """Count ``text``; further kinds than 50 are dropped, so a file cannot fill memory."""
        if text in self._counts or len(self._counts) < 50:
            self._counts[text] = self._counts.get(text, 0) + times

    def once(self, text: str) -> None:
        """Note ``text``, however often it comes, without a count."""
        if text not in self._counts:
            self.add(text)

    def unowned(self, text: str) -> None:
        """Note ``text`` once about memories without an owner, unless they are placed anyway."""
        if not self._placed:
            self.once(text)

    def as_list(self) -> list[str]:
        """Return one sentence for each kind, with its count where it came more than once."""
        return [f"{t} ({n:,} times)" if n > 1 else t for t, n in self._counts.items()]
