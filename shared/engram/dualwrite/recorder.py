"""The thread that writes the journal: callers hand over a record and wait a bounded time."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from engram.dualwrite.journal import Journal
from engram.errors import EngramError

_log = logging.getLogger("engram.dualwrite")

MAX_HELD: Final = 100_000


@dataclass(slots=True)
class Entry:
    """One record on its way to the disk.

    Attributes:
        written: done when a killed process cannot lose it any more.
        synced: done when a machine that loses power cannot either.
    """

    record: dict[str, Any]
    written: Future[None] = field(default_factory=Future)
    synced: Future[None] = field(default_factory=Future)


class Recorder:
    """Owns the journal and its thread.

    Args:
        journal: to write; closed with the recorder.
        first_number: of the next operation.
        on_unrecorded: told the records that could be kept neither on disk nor in memory.
    """

    def __init__(
        self,
        journal: Journal,
        first_number: int,
        on_unrecorded: Callable[[Sequence[dict[str, Any]], Exception], None],
    ) -> None:
        self._journal = journal
        self._numbers = itertools.count(first_number)
        self._on_unrecorded = on_unrecorded
        self._waiting: deque[Entry] = deque()
        self._closed: deque[int] = deque()
        self._wanted = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engram-journal", daemon=True)
        self._thread.start()

    def number(self) -> int:
        """Return the number of the next operation."""
        return next(self._numbers)

    def hand_over(self, record: dict[str, Any]) -> Entry:
        """Queue a record; never waits for the disk."""
        entry = Entry(record)
        with self._wanted:
            if self._stopping or len(self._waiting) >= MAX_HELD:
                self._refuse([entry], BlockingIOError("the journal does not keep up"))
                return entry
            self._waiting.append(entry)
            self._wanted.notify()
        return entry

    def close_numbers(self, numbers: Sequence[int]) -> None:
        """Queue the note that these operations are mirrored."""
        with self._wanted:
            self._closed.extend(numbers)
            self._wanted.notify()

    def stop(self) -> None:
        """Write what is queued, and let another process have the journal."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wanted:
                while not (self._waiting or self._closed or self._stopping):
                    self._wanted.wait()
                entries, self._waiting = list(self._waiting), deque()
                closed, self._closed = list(self._closed), deque()
                ending = self._stopping
            self._write(entries)
            if closed:
                self._journal.close_numbers(closed)
            if ending and not entries and not closed:
                self._journal.close()
                return

    def _write(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            self._journal.append([entry.record for entry in entries])
            for entry in entries:
                _finish(entry.written)
            self._journal.sync()
        except (EngramError, OSError) as error:
            self._refuse([entry for entry in entries if not entry.written.done()], error)
        for entry in entries:
            _finish(entry.written)
            _finish(entry.synced)

    def _refuse(self, entries: Sequence[Entry], error: Exception) -> None:
        # The operation is mirrored from memory all the same; it is lost only with this process.
        _log.error("writes to mirror are not in the journal: %s", type(error).__name__)
        self._on_unrecorded([entry.record for entry in entries], error)
        for entry in entries:
            _finish(entry.written)
            _finish(entry.synced)


def _finish(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
