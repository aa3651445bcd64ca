"""Which memories merge with one another, which of them survives, and what that one carries."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from engram.domain.guard.verdict import Kind
from engram.domain.memory import State

# The column that counts accesses holds 32 bits.
MAX_ACCESS_COUNT: Final = 2**31 - 1

# Memories are numbered by ascending id: numbers are compared and hashed far faster than UUIDs.
_Links = list[dict[int, float]]


@dataclass(frozen=True, slots=True)
class Link:
    """Two memories that were decided to merge.

    Attributes:
        kind: ``SAME``, or which of the two texts holds all of the other.
    """

    a: UUID
    b: UUID
    cosine: float
    kind: Kind = Kind.SAME


@dataclass(frozen=True, slots=True)
class Member:
    """What is asked of a memory that may merge; times are UTC."""

    id: UUID
    importance: float
    created_at: datetime
    reinforced_at: datetime
    access_count: int = 0
    last_accessed_at: datetime | None = None
    pinned: bool = False
    state: State = "active"


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a group.

    Attributes:
        survivor: the memory that answers for the others.
        absorbed: those that merge into it, ascending; possibly none.
        apart: those that stay as they are and are proposed instead, ascending: pinned ones, and
            ones whose text the survivor does not hold.
    """

    survivor: UUID
    absorbed: tuple[UUID, ...]
    apart: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """What a survivor carries for all it stands for."""

    importance: float
    access_count: int
    created_at: datetime
    reinforced_at: datetime
    last_accessed_at: datetime | None


def linked_groups(links: Iterable[Link]) -> list[tuple[UUID, ...]]:
    """Return groups of two or more memories, every two of which are linked.

    Complete linkage: again and again the two groups merge whose least alike members are most alike
    (Lance and Williams 1967), as long as all their members are linked; equal ones by the smallest
    ids. The order of the links and of the ids within one does not matter.

    Returns:
        The groups by their smallest ids, each ascending.

    Raises:
        ValueError: a link joins a memory with itself, or a pair has two cosines.
    """
    ids, alike = _numbered(links)
    members = {number: [number] for number in range(len(ids))}
    heap = [(-cosine, a, b) for a, of_a in enumerate(alike) for b, cosine in of_a.items() if a < b]
    heapq.heapify(heap)
    while heap:
        distance, a, b = heapq.heappop(heap)
        # A group is named by its smallest member; what was said of it before it grew is void.
        if alike[a].get(b) != -distance:
            continue
        members[a] += members.pop(b)
        for other, cosine in _unite(alike, a, b):
            heapq.heappush(heap, (-cosine, min(a, other), max(a, other)))
    return [tuple(ids[n] for n in sorted(group)) for group in members.values() if len(group) > 1]


def settle(members: Collection[Member], links: Iterable[Link]) -> Settlement | None:
    """Choose who survives of one group, and who merges into it.

    The text that holds most of the others survives, then the pinned one, the more important, the
    older, the one of the smaller id. A pinned memory is never absorbed, and none is absorbed whose
    text the survivor does not hold. Memories that are not active, such as superseded ones, neither
    survive nor merge.

    Args:
        members: of one group, in any order.
        links: those among the members; others are ignored.

    Returns:
        The outcome, or None when fewer than two members are active.
    """
    active = {member.id: member for member in members if member.state == "active"}
    if len(active) < 2:
        return None
    held = _held(active, links)
    survivor = min(active.values(), key=lambda member: _rank(member, len(held[member.id])))
    absorbed = {memory for memory in held[survivor.id] if not active[memory].pinned}
    apart = active.keys() - absorbed - {survivor.id}
    return Settlement(survivor.id, tuple(sorted(absorbed)), tuple(sorted(apart)))


def carried(survivor: Member, absorbed: Iterable[Member]) -> Carried:
    """Return the highest importance, all accesses, the earliest creation, the latest reinforcement.

    The order of the absorbed does not matter.
    """
    all_of_them = (survivor, *absorbed)
    accessed = [m.last_accessed_at for m in all_of_them if m.last_accessed_at is not None]
    return Carried(
        importance=max(member.importance for member in all_of_them),
        access_count=min(sum(member.access_count for member in all_of_them), MAX_ACCESS_COUNT),
        created_at=min(member.created_at for member in all_of_them),
        reinforced_at=max(member.reinforced_at for member in all_of_them),
        last_accessed_at=max(accessed, default=None),
    )


def _numbered(links: Iterable[Link]) -> tuple[list[UUID], _Links]:
    listed = list(links)
    ids = sorted({one for link in listed for one in (link.a, link.b)})
    number_of = {memory: number for number, memory in enumerate(ids)}
    alike: _Links = [{} for _ in ids]
    for link in listed:
        a, b = number_of[link.a], number_of[link.b]
        if a == b:
            raise ValueError(f"a link joins {link.a} with itself")
        if alike[a].setdefault(b, link.cosine) != link.cosine:
            raise ValueError(f"two cosines for {link.a} and {link.b}")
        alike[b][a] = link.cosine
    return ids, alike


def _unite(alike: _Links, a: int, b: int) -> list[tuple[int, float]]:
    """Let group a stand for a and b; return the groups it may still merge with, and how alike."""
    of_a, of_b = alike[a], alike[b]
    kept = {other: min(cosine, of_b[other]) for other, cosine in of_a.items() if other in of_b}
    for other in of_b:
        del alike[other][b]
    for other in of_a.keys() - kept.keys():
        alike[other].pop(a, None)
    for other, cosine in kept.items():
        alike[other][a] = cosine
    alike[a], alike[b] = kept, {}
    return list(kept.items())


def _held(active: Mapping[UUID, Member], links: Iterable[Link]) -> dict[UUID, set[UUID]]:
    """Return for each memory those whose text it holds."""
    held: dict[UUID, set[UUID]] = {memory: set() for memory in active}
    for link in links:
        if link.a not in active or link.b not in active:
            continue
        if link.kind in {Kind.SAME, Kind.CONTAINS_A}:
            held[link.a].add(link.b)
        if link.kind in {Kind.SAME, Kind.CONTAINS_B}:
            held[link.b].add(link.a)
    return held


def _rank(member: Member, holds: int) -> tuple[int, bool, float, datetime, UUID]:
    """Order candidates, the best first."""
    return -holds, not member.pinned, -member.importance, member.created_at, member.id
