"""What a shape of export declares: which records it takes, and the text around them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# A row of a memory: the public record's fields without `version` and `embedded`, times as
# datetimes, and `reinforced_at`.
Row = dict[str, Any]

ALL_STATES = ("active", "superseded", "merged", "archived")


@dataclass(frozen=True, slots=True)
class Section:
    """One list of a document; each is a pass of its own over the memories.

    Attributes:
        opening: the text before the first element.
        element: a memory as an element; None leaves it out.
    """

    opening: str
    element: Callable[[Row], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """One row of the table of shapes.

    Attributes:
        name: what ``?format=`` takes.
        media_type: of the answer.
        ending: of a file's name.
        states: the memories that it can say without making them live again.
        opening: the text before all, given when the export began.
        sections: the lists, in order.
        between: what separates the elements of a list.
        closing: the text after all.
    """

    name: str
    media_type: str
    ending: str
    states: tuple[str, ...]
    opening: Callable[[datetime], str]
    sections: tuple[Section, ...]
    between: str
    closing: str


def text_of(instant: datetime | None) -> str | None:
    """Return an instant as RFC 3339 in UTC, ``…Z``, to the microsecond."""
    if instant is None:
        return None
    return instant.isoformat().replace("+00:00", "Z")
