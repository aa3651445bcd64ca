"""What waits to be mirrored: one bell a memory, however often it was written. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

# Ceiling of the wait before the n-th try again; the last one repeats.
_WAITS_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# When to look what came of a write that the old store works on later.
SCANS_S: Final = (0.5, 2.0, 5.0, 15.0, 30.0, 60.0)


@dataclass(slots=True)
class Bell:
    """Look at this memory, or at what was written in this scope since.

    Attributes:
        key: memory id; for a scan a name of its own.
        since: ISO time from which a scan takes rows; None for one memory.
        event_id: of the work a scan waits for.
        gone: the old store said that it deleted the memory.
        absences: how often it was not there although the store said it stored it.
        rereads: how often it was another when it was read again after it was published.
        numbers: the operations that rang; closed when it is mirrored.
        rung_at_s: monotonic time of the first of them.
        due_at_s: not before.
        tries: how often it failed in a row; for a scan, how often it looked.
        expected: a scan that finds nothing is worth a word.
        seen: ids that a scan has found.
    """

    key: str
    scope: dict[str, str]
    since: str | None = None
    event_id: str = ""
    gone: bool = False
    absences: int = 0
    rereads: int = 0
    numbers: set[int] = field(default_factory=set)
    rung_at_s: float = 0.0
    due_at_s: float = 0.0
    tries: int = 0
    expected: bool = True
    seen: set[str] = field(default_factory=set)

    def wait_s(self) -> float:
        """Return how long to wait before the next try, and count this one."""
        self.tries += 1
        return _WAITS_S[min(self.tries, len(_WAITS_S)) - 1]


class Bells:
    """Waiting bells by key, in the order in which they first rang."""

    def __init__(self) -> None:
        self._waiting: dict[str, Bell] = {}
        self._open: dict[int, int] = {}
        self._rung_at_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._open)

    def oldest_s(self, now_s: float) -> float:
        """Return the age of the oldest operation that is not mirrored, 0 when there is none."""
        return now_s - next(iter(self._rung_at_s.values()), now_s)

    def ring(self, bell: Bell) -> None:
        """Add a bell; one that waits for the same memory takes over its operations."""
        for number in bell.numbers:
            self._open[number] = self._open.get(number, 0) + 1
            self._rung_at_s.setdefault(number, bell.rung_at_s)
        self._put(bell)

    def again(self, bell: Bell, due_at_s: float) -> None:
        """Put a bell that was taken back, for later; what rang meanwhile joins it."""
        bell.due_at_s = due_at_s
        self._put(bell)

    def take(self, now_s: float, most: int) -> list[Bell]:
        """Take up to ``most`` bells that are due."""
        due = [bell for bell in self._waiting.values() if bell.due_at_s <= now_s][:most]
        for bell in due:
            del self._waiting[bell.key]
        return due

    def next_due_s(self) -> float | None:
        """Return when the next bell is due, None when none waits."""
        return min((bell.due_at_s for bell in self._waiting.values()), default=None)

    def done(self, numbers: Iterable[int]) -> list[int]:
        """Count a bell of these operations as mirrored; return those that have none left."""
        closed = []
        for number in numbers:
            if number not in self._open:
                continue  # counted already, before something failed
            self._open[number] -= 1
            if not self._open[number]:
                del self._open[number], self._rung_at_s[number]
                closed.append(number)
        return closed

    def _put(self, bell: Bell) -> None:
        other = self._waiting.get(bell.key)
        if other is None:
            self._waiting[bell.key] = bell
            return
        for number in bell.numbers & other.numbers:
            self._open[number] -= 1  # one bell now rings for what two rang for
        other.numbers |= bell.numbers
        other.gone |= bell.gone
        other.absences = max(other.absences, bell.absences)
        other.tries = max(other.tries, bell.tries)
        other.due_at_s = max(other.due_at_s, bell.due_at_s)
        other.rung_at_s = min(other.rung_at_s, bell.rung_at_s)
