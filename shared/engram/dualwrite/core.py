"""What both writers share: recording a write around the old store's call, and what is behind it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from engram.dualwrite.answers import Told
from engram.dualwrite.bells import SCANS_S, Bell
from engram.dualwrite.journal import Journal
from engram.dualwrite.mirror import Mirror
from engram.dualwrite.phases import CurrentPhase, PhaseSource
from engram.dualwrite.publishing import MirrorPublisher
from engram.dualwrite.recorder import Entry, Recorder
from engram.dualwrite.stats import Ledger, Stats
from engram.dualwrite.stores import OldStore
from engram.errors import UsageError

_log = logging.getLogger("engram.dualwrite")

# The old store's clock and ours may differ by so much; rows found too early change nothing.
_CLOCKS_DIFFER: Final = timedelta(seconds=60)
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """How a writer works.

    Attributes:
        phase: until it is changed.
        phase_source: asked for the phase once a second; see `engram.dualwrite.phases`.
        max_path_s: longest time a write waits for the journal, over what the old store takes.
        max_journal_bytes: beyond it writes are mirrored from memory only, and counted.
        read_timeout_s: longest wait for engram in ``new-reads``, before the old store answers.
        shadow_sample: share of searches that are compared in ``shadow-read``.
        reread: read a row again after it is published; needed when several processes write.
        bare_lists: engram's answers are bare lists, as those of old mem0 clients.
        connect_options: further options of ``nats.connect``.
    """

    phase: str = "old-only"
    phase_source: PhaseSource | None = None
    max_path_s: float = 0.05
    max_journal_bytes: int = 256 * 1024 * 1024
    read_timeout_s: float = 5.0
    shadow_sample: float = 1.0
    reread: bool = True
    bare_lists: bool = False
    connect_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            self.max_path_s <= 0
            or self.max_journal_bytes < 4096
            or not 0 <= self.shadow_sample <= 1
        ):
            raise UsageError(
                "bad_dualwrite_option",
                "max_path_s, max_journal_bytes or shadow_sample is out of its range.",
                cure="max_path_s above 0, max_journal_bytes from 4096, shadow_sample 0 to 1.",
            )


@dataclass(frozen=True, slots=True)
class Operation:
    """One write on its way through the old store.

    Attributes:
        number: in the journal.
        ids: it names, as far as that is known before.
        since: ISO time from which rows may be its doing.
        entry: the record of its beginning; None when the phase did not mirror then.
    """

    number: int
    ids: tuple[str, ...]
    scope: dict[str, str]
    since: str
    entry: Entry | None


class Core:
    """Journal, mirror, phase and counters of one writer.

    Raises:
        UsageError: the journal directory is in use or cannot be used; no NATS address.
        InvalidError: the workspace is no id.
    """

    def __init__(
        self, store: OldStore, nats_url: str | None, workspace: str, folder: Path, options: Options
    ) -> None:
        def publisher() -> MirrorPublisher:
            return MirrorPublisher(
                nats_url,
                workspace,
                source="engram-dualwrite",
                timeout_s=2.0,
                give_up_after_s=5.0,
                connect_options=options.connect_options,
            )

        publisher()  # an address that is none is an error now, not in a thread later
        self.store, self.options = store, options
        self.ledger = Ledger()
        self.phase = CurrentPhase(
            options.phase,
            options.phase_source,
            on_error=lambda error: _log.warning("phase not changed: %s", type(error).__name__),
        )
        self._journal = Journal(folder, max_bytes=options.max_journal_bytes)
        left = self._journal.replay()
        first = max((record["n"] for record in left), default=0) + 1
        self._recorder = Recorder(self._journal, first, self._unrecorded)
        self.mirror = Mirror(
            store, self.ledger, publisher, self._recorder.close_numbers, self._note,
            reread=options.reread,
        )  # fmt: skip
        self.mirror.ring(_bells_left(left))

    def begin(self, ids: Sequence[str], scope: Mapping[str, str], *, recorded: bool) -> Operation:
        """Note in the journal that a write begins, so that a crash after it is found."""
        number = self._recorder.number()
        since = (datetime.now(UTC) - _CLOCKS_DIFFER).isoformat()
        record = {"n": number, "ids": list(ids), "scope": dict(scope), "since": since}
        entry = self._recorder.hand_over(record) if recorded else None
        return Operation(number, tuple(ids), dict(scope), since, entry)

    def end(self, operation: Operation, told: Told, *, failed: bool = False) -> Entry:
        """Note what a write did and ring for it.

        Args:
            operation: as begun.
            told: what the old store's answer says.
            failed: it raised; it may have stored something all the same.
        """
        touched = [one for one in (*operation.ids, *told.touched) if one not in told.gone]
        record = {
            "n": operation.number,
            "end": True,
            "ids": list(dict.fromkeys(touched)),
            "gone": list(told.gone),
            "pending": list(told.pending),
            "scope": operation.scope,
            "since": operation.since,
            "failed": failed,
        }
        entry = self._recorder.hand_over(record)
        bells = _bells_of(record)
        if bells:
            self.ledger.count("recorded")
            self.mirror.ring(bells)
        else:
            self._recorder.close_numbers([operation.number])
        return entry

    def drop(self, operation: Operation) -> None:
        """Forget a write that the phase does not mirror any more."""
        if operation.entry is not None:
            self._recorder.close_numbers([operation.number])

    def stats(self) -> Stats:
        """Return a snapshot of what was done so far."""
        pending, oldest_s = self.mirror.waiting()
        journal = self._journal
        return self.ledger.snapshot(
            self.phase.get(), pending, oldest_s, journal.size_bytes, journal.damaged_bytes
        )

    def is_drained(self) -> bool:
        """Say whether everything recorded is mirrored."""
        return self.mirror.waiting()[0] == 0

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything recorded is mirrored; say whether it is."""
        give_up_at_s = time.monotonic() + timeout_s
        while not self.is_drained():
            if time.monotonic() >= give_up_at_s:
                return False
            time.sleep(_LOOK_S)
        return True

    def close(self) -> None:
        """End the threads; what is not mirrored stays in the journal for the next start."""
        self.mirror.stop()
        self._recorder.stop()

    def _note(self, ids: Sequence[str], scope: dict[str, str]) -> None:
        if ids:
            self.end(self.begin((), scope, recorded=False), Told(touched=tuple(ids)))

    def _unrecorded(self, records: Sequence[dict[str, Any]], error: Exception) -> None:
        for record in records:
            for name in record["ids"] or [str(record["n"])]:
                self.ledger.diverge("unrecorded", name, type(error).__name__)


def _bells_of(record: Mapping[str, Any]) -> list[Bell]:
    """Return the bells of a write that ended, or that a crash cut off."""
    number, scope = {record["n"]}, record["scope"]
    now_s = time.monotonic()
    bells = [Bell(one, scope, numbers=set(number), rung_at_s=now_s) for one in record["ids"]]
    bells += [
        Bell(one, scope, gone=True, numbers=set(number), rung_at_s=now_s)
        for one in record.get("gone", ())
    ]
    expected = bool(record.get("pending"))
    events = list(record.get("pending", ()))
    if not events and not bells and (record.get("failed") or not record.get("end")):
        events = [""]  # what it stored, if anything, has no name yet
    if not scope and not any(events):
        events = []
    for position, event_id in enumerate(events):
        bells.append(
            Bell(
                f"\0scan {record['n']} {position}",
                scope,
                since=record["since"],
                event_id=event_id,
                numbers=set(number),
                rung_at_s=now_s,
                due_at_s=now_s + SCANS_S[0],
                expected=expected,
            )
        )
    return bells


def _bells_left(records: Sequence[Mapping[str, Any]]) -> list[Bell]:
    """Return the bells of a journal: of an operation that ended, what its end says."""
    last: dict[int, Mapping[str, Any]] = {}
    for record in records:
        if record["n"] not in last or record.get("end"):
            last[record["n"]] = record
    return [bell for record in last.values() for bell in _bells_of(record)]
