"""Which vector indexes should exist, and which way a search takes.

An index covers the rows of one scope whose ``seq`` lies in (low, high]. A re-embedded row gets a
new ``seq`` and so leaves its old range; what no range covers is the tail, which is scanned exactly.
Every search states the ranges in its own conditions, so a missing index costs time, never rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

# Up to this many rows an exact scan is as fast as an index and finds everything.
EXACT_ROWS: Final = 5_000
# An un-indexed tail of this many rows is worth a build.
TAIL_ROWS: Final = 20_000
# While the bulk lane loads, a tail may grow this long: a build takes a core from everybody, and one
# index built after the load costs a quarter of those that would be merged on the way.
LOADING_TAIL_ROWS: Final = 100_000
# Ranges holding this many times the rows that live are built anew; above the error of estimates.
STALE_TIMES: Final = 3
# Ranges a search touches at most.
MAX_RANGES: Final = 4
# Scopes with indexes of their own: each range of each scope costs planning time in every search.
MAX_SCOPES: Final = 64
# A namespace this large a part of its workspace is served by the workspace's index.
DOMINANT_SHARE: Final = 0.5
# ... and keeps an index of its own, once it has one, up to this share.
DOMINANT_SHARE_LEAVE: Final = 0.7
# Below this share, a filtered scan of a shared index misses neighbours (0.85 recall at 2 %).
SHARED_SHARE: Final = 0.3
# A searcher may go on using a list of ranges it has read for this long.
RETIRE_GRACE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows an index covers: one namespace, or a whole workspace when it is None."""

    workspace: UUID
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of a scope in the vector table, and its highest ``seq``."""

    scope: Scope
    rows: int
    max_seq: int


@dataclass(frozen=True, slots=True)
class Range:
    """One usable index: it covers ``low < seq <= high``, and ``rows`` rows when it was built."""

    name: str
    scope: Scope
    low: int
    high: int
    rows: int


@dataclass(frozen=True, slots=True)
class Build:
    """An index to build; once it is ready, those named in ``replaces`` are retired."""

    scope: Scope
    low: int
    high: int
    rows: int
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """How a search is answered.

    Attributes:
        kind: ``exact`` scans the scope; ``indexed`` asks the ranges and scans the tail.
        ranges: ascending, without gaps between them; empty for ``exact``.
    """

    kind: Literal["exact", "indexed"]
    ranges: tuple[Range, ...] = ()


def wanted_scopes(sizes: Iterable[Size], indexed: Collection[Scope]) -> list[Size]:
    """Choose the scopes that should have indexes, largest first.

    Args:
        sizes: scopes above `EXACT_ROWS`; of both workspaces and namespaces.
        indexed: scopes that have indexes now; they keep them a little longer than they would get
            them, so that a size on the edge does not build and drop for ever.
    """
    listed = list(sizes)
    totals = {size.scope.workspace: size.rows for size in listed if size.scope.namespace is None}
    wanted = [size for size in listed if _wanted(size, totals, size.scope in indexed)]
    wanted.sort(
        key=lambda size: (-size.rows * (1.25 if size.scope in indexed else 1.0), str(size.scope))
    )
    return wanted[:MAX_SCOPES]


def _wanted(size: Size, totals: dict[UUID, int], indexed: bool) -> bool:
    if size.rows <= (EXACT_ROWS if indexed else TAIL_ROWS):
        return False
    if size.scope.namespace is None:
        return True
    share = size.rows / max(totals.get(size.scope.workspace, 0), size.rows)
    return share < (DOMINANT_SHARE_LEAVE if indexed else DOMINANT_SHARE)


def longest_tail(*, loading: bool) -> int:
    """Return from how many rows on a tail is worth a build now."""
    return LOADING_TAIL_ROWS if loading else TAIL_ROWS


def plan_build(
    size: Size, ranges: Sequence[Range], tail_rows: int, *, loading: bool = False
) -> Build | None:
    """Return the next index a scope needs, or None.

    The tail becomes a range. It takes in the youngest ranges that are less than twice as large as
    what it already holds, like a binary counter: a row is indexed about log2(rows / tail) times
    in its life, and never are there more than `MAX_RANGES`. When most of what was indexed is gone
    from the ranges (deleted, or embedded again) all of it is built anew.

    Args:
        size: of the scope, which is wanted.
        ranges: its ready ranges, in any order.
        tail_rows: rows with a ``seq`` above all ranges; counting may stop at `longest_tail`.
        loading: the bulk lane has work for this space.
    """
    longest = longest_tail(loading=loading)
    kept = sorted(ranges, key=lambda item: item.high)
    covered = sum(item.rows for item in kept)
    stale = covered > STALE_TIMES * size.rows
    if tail_rows < longest and not stale and (kept or size.rows <= longest):
        return None
    absorbed: list[Range] = []
    rows = max(tail_rows, size.rows - covered)
    while kept and (stale or kept[-1].rows < 2 * rows or len(kept) >= MAX_RANGES):
        absorbed.append(kept.pop())
        rows += absorbed[-1].rows
    low = kept[-1].high if kept else 0
    return Build(
        size.scope, low, size.max_seq, min(rows, size.rows), tuple(item.name for item in absorbed)
    )


def unwanted(ranges: Iterable[Range], wanted: Collection[Scope]) -> list[Range]:
    """Return the ranges whose scope should no longer have indexes."""
    return [item for item in ranges if item.scope not in wanted]


def choose_route(namespace: str | None, rows: int, ranges: Sequence[Range]) -> Route:
    """Choose how to search a scope.

    Args:
        namespace: searched; None is the whole workspace.
        rows: last counted rows of the namespace; ignored for a workspace, whose indexes exist
            only while it is large.
        ranges: ready ranges of the namespace and of its workspace.
    """
    own = _unbroken([item for item in ranges if item.scope.namespace == namespace])
    if namespace is None:
        return Route("indexed", own) if own else Route("exact")
    if rows <= EXACT_ROWS:
        return Route("exact")
    if own:
        return Route("indexed", own)
    shared = _unbroken([item for item in ranges if item.scope.namespace is None])
    if shared and rows >= SHARED_SHARE * sum(item.rows for item in shared):
        return Route("indexed", shared)
    return Route("exact")


def _unbroken(ranges: list[Range]) -> tuple[Range, ...]:
    # A hole would hide rows. Should one ever appear, what lies above it is scanned as the tail.
    chain: list[Range] = []
    for item in sorted(ranges, key=lambda item: (item.low, -item.high)):
        end = chain[-1].high if chain else 0
        if item.low == end and item.high > end:
            chain.append(item)
    return tuple(chain)
