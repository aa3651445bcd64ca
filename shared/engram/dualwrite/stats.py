"""What a move has done so far: counters, and the ids where the two stores may differ."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final, Literal

LISTED: Final = 1000
Reason = Literal["refused", "unrecorded", "unresolved", "shadow"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """One place where the stores may differ: `engram compare --repair` looks and repairs.

    Attributes:
        reason: ``refused`` engram cannot take the row; ``unrecorded`` the journal was full and the
            write is known to this process only; ``unresolved`` the old store never said what came
            of a write; ``shadow`` the old store found it and engram did not.
        name: external id, or the scope of the write.
    """

    reason: Reason
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """What shadow reads have shown.

    Attributes:
        reads: compared.
        skipped: not compared, because too many were under way or engram did not answer.
        overlap: mean share of the old store's first k that engram's first k has, 0 to 1.
        missing: results of the old store that engram did not find, in all.
        primary_ms: mean time of the old store's search.
        engram_ms: mean time of engram's.
    """

    reads: int = 0
    skipped: int = 0
    overlap: float | None = None
    missing: int = 0
    primary_ms: float | None = None
    engram_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot.

    Attributes:
        recorded: writes put into the journal.
        put: memories stored or changed in engram.
        deleted: memories deleted there.
        pending: writes that are not mirrored yet.
        oldest_pending_s: age of the oldest of these.
        retries: tries that failed and are repeated.
        late: calls that went on before the disk had answered, at the bound.
        fallbacks: reads that the old store answered because engram did not.
        journal_bytes: size of the journal on disk.
        damaged_bytes: of the journal that could not be read when it was opened.
        only_in_engram: writes made in the phase new-only: the old store does not have them.
        diverged: divergences by reason.
        divergences: the last 1,000 of them.
    """

    phase: str
    recorded: int
    put: int
    deleted: int
    pending: int
    oldest_pending_s: float
    retries: int
    late: int
    fallbacks: int
    journal_bytes: int
    damaged_bytes: int
    only_in_engram: int
    diverged: dict[str, int]
    divergences: tuple[Divergence, ...]
    shadow: ShadowStats


class Ledger:
    """Counts, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._diverged: Counter[str] = Counter()
        self._listed: deque[Divergence] = deque(maxlen=LISTED)
        self._sums: Counter[str] = Counter()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += number

    def diverge(self, reason: Reason, name: str, detail: str) -> None:
        """Note where the stores may differ."""
        with self._lock:
            self._diverged[reason] += 1
            self._listed.append(Divergence(reason, name, detail))

    def shadow(self, overlap: float, missing: int, primary_s: float, engram_s: float) -> None:
        """Note the result of one shadow read."""
        with self._lock:
            self._counts["shadow_reads"] += 1
            self._counts["shadow_missing"] += missing
            for name, value in (("overlap", overlap), ("old", primary_s), ("new", engram_s)):
                self._sums[name] += value  # type: ignore[assignment]  # sums are fractions

    def snapshot(
        self,
        phase: str,
        pending: int,
        oldest_pending_s: float,
        journal_bytes: int,
        damaged_bytes: int,
    ) -> Stats:
        """Return everything counted so far."""
        with self._lock:
            of = self._counts.__getitem__
            return Stats(
                phase=phase,
                recorded=of("recorded"),
                put=of("put"),
                deleted=of("deleted"),
                pending=pending,
                oldest_pending_s=oldest_pending_s,
                retries=of("retries"),
                late=of("late"),
                fallbacks=of("fallbacks"),
                journal_bytes=journal_bytes,
                damaged_bytes=damaged_bytes,
                only_in_engram=of("only_in_engram"),
                diverged=dict(self._diverged),
                divergences=tuple(self._listed),
                shadow=self._shadow(),
            )

    def _shadow(self) -> ShadowStats:
        reads = self._counts["shadow_reads"]
        skipped = self._counts["shadow_skipped"]
        if not reads:
            return ShadowStats(skipped=skipped)
        return ShadowStats(
            reads=reads,
            skipped=skipped,
            overlap=self._sums["overlap"] / reads,
            missing=self._counts["shadow_missing"],
            primary_ms=self._sums["old"] / reads * 1e3,
            engram_ms=self._sums["new"] / reads * 1e3,
        )
