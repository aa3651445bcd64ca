"""The phases of a move, and where the current one is read from while the application runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, get_args

from engram.errors import EngramError, UsageError

Phase = Literal["old-only", "dual-write", "shadow-read", "new-reads", "new-only"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
ENVIRONMENT: Final = "ENGRAM_DUALWRITE_PHASE"

_LOOK_EVERY_S: Final = 1.0
_MIRRORING: Final[frozenset[Phase]] = frozenset({"dual-write", "shadow-read", "new-reads"})

PhaseSource = Callable[[], str | None]


def as_phase(text: str) -> Phase:
    """Return the phase of that name.

    Raises:
        UsageError: there is none.
    """
    named = text.strip().lower().replace("_", "-")
    if named not in PHASES:
        raise UsageError(
            "unknown_phase",
            f"{text.strip()[:40]!r} is no phase of a move.",
            cure=f"Use one of {', '.join(PHASES)}.",
        )
    return named


def from_file(path: str | os.PathLike[str]) -> PhaseSource:
    """Return a source that reads the phase from a file; a file that is absent says nothing."""

    def read() -> str | None:
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    return read


def from_environment(name: str = ENVIRONMENT) -> PhaseSource:
    """Return a source that reads the phase from an environment variable."""
    return lambda: os.environ.get(name) or None


def mirrors(phase: Phase) -> bool:
    """Say whether writes to the old store are mirrored in this phase."""
    return phase in _MIRRORING


class CurrentPhase:
    """The phase now: what was set, or what the source says, looked at once a second at most.

    A source that fails or says nothing valid changes nothing: the phase stays what it was.

    Args:
        phase: until something else is said.
        source: asked for the phase; the setter has the last word until the source changes.
        clock_s: monotonic seconds.
        on_error: told what was wrong with what the source said.

    Raises:
        UsageError: ``phase`` is none.
    """

    def __init__(
        self,
        phase: str,
        source: PhaseSource | None = None,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        on_error: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._phase = as_phase(phase)
        self._source = source
        self._clock_s = clock_s
        self._on_error = on_error
        self._said: str | None = None
        self._looked_at_s = float("-inf")
        self._lock = threading.Lock()

    def get(self) -> Phase:
        """Return the phase now."""
        if self._source is not None and self._is_due():
            self._look(self._source)
        return self._phase

    def set(self, phase: str) -> None:
        """Change the phase; it holds until the source says something new.

        Raises:
            UsageError: there is no such phase.
        """
        self._phase = as_phase(phase)

    def _is_due(self) -> bool:
        with self._lock:
            now_s = self._clock_s()
            due = now_s - self._looked_at_s >= _LOOK_EVERY_S
            if due:
                self._looked_at_s = now_s
            return due

    def _look(self, source: PhaseSource) -> None:
        try:
            said = source()
            if said is None or said == self._said:
                return
            self._phase = as_phase(said)
            self._said = said
        except (EngramError, OSError, ValueError) as error:
            self._on_error(error)
        except Exception as error:  # noqa: BLE001 - somebody's callable must not fail a read
            self._on_error(error)
