"""Who may call a provider next: live work before bulk, and a floor for bulk.

Queries come before both; they are called from other processes and meet these lanes only in the
budget (``engram.domain.budget``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Lane = Literal["live", "bulk"]
LANES: Final[tuple[Lane, ...]] = ("live", "bulk")

# While both wait, bulk gets every fifth slot that comes free.
LIVE_BEFORE_BULK: Final = 4
# One slot of so many is kept for live work.
_RESERVED_OF: Final = 4


def bulk_slots(calls: int) -> int:
    """Return how many of ``calls`` slots bulk may hold: a quarter stays free for live work.

    Below four calls none can be kept; a live call then waits for one answer at most.
    """
    return max(1, calls - calls // _RESERVED_OF)


def next_lane(
    calls: int, in_flight: Mapping[Lane, int], waiting: Mapping[Lane, int], live_in_a_row: int
) -> Lane | None:
    """Return whose turn a slot is, or None when nobody may have one.

    Args:
        calls: that may be in flight at once.
        in_flight: calls of each lane that are.
        waiting: calls of each lane that want to be.
        live_in_a_row: slots given to live work while bulk was waiting, since bulk got its last.
    """
    if sum(in_flight.values()) >= calls:
        return None
    bulk = waiting["bulk"] > 0 and in_flight["bulk"] < bulk_slots(calls)
    if bulk and (not waiting["live"] or live_in_a_row >= LIVE_BEFORE_BULK):
        return "bulk"
    return "live" if waiting["live"] else None


def spills(pending: int, arriving: int, share: int) -> bool:
    """Say whether what arrives belongs to bulk: its workspace would hold more than its live share.

    Args:
        pending: memories of the workspace that the live lane holds.
        arriving: memories that a bell names.
        share: memories of one workspace that the live lane takes.
    """
    return pending + arriving > share
