"""The clock that fading is swept by: wall time, less what nobody can vouch for.

A wall clock that is set forwards by a year would make every memory a year older at once. So the
database remembers when the clock was last looked at, and what of its course does not count. Where
the looker itself looked last time, its steady clock tells how much time has really passed; where
not (another process, a restart, a backup that was restored), at most `UNSEEN_S` count, however long
it says it was. A clock that is set back gives back what was withheld.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# A night and a morning: a machine that is switched off each day fades like one that is not.
UNSEEN_S: Final = 93_600.0
# Clocks are corrected by a little all the time, and looking takes its time too.
TOLERANCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class DecayClock:
    """What is remembered between two looks at the clock.

    Attributes:
        seen_at: the database's wall clock at the last look, with an offset.
        withheld_s: seconds of the wall clock's course that do not count, at least 0.
    """

    seen_at: datetime
    withheld_s: float = 0.0

    @property
    def now(self) -> datetime:
        """The instant that ages are counted to."""
        return self.seen_at - timedelta(seconds=self.withheld_s)


def looked_at(
    clock: DecayClock, now: datetime, elapsed_s: float | None
) -> tuple[DecayClock, float]:
    """Return the clock after a look, and by how many seconds it had been set (0: it ran on).

    Args:
        clock: as remembered.
        now: the database's wall clock.
        elapsed_s: seconds since the last look by the steady clock of the process that took it;
            None when another one did.
    """
    passed_s = (now - clock.seen_at).total_seconds()
    real_s = min(max(passed_s, 0.0), UNSEEN_S) if elapsed_s is None else elapsed_s
    set_by_s = passed_s - real_s
    if abs(set_by_s) <= TOLERANCE_S:
        set_by_s = 0.0
    return DecayClock(now, max(0.0, clock.withheld_s + set_by_s)), set_by_s
