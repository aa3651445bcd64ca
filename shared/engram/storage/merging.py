"""Merges groups of memories: locks, looks again, changes rows, drops vectors, writes the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from engram.domain.merging import VALUE_NAMES, Values, disagreeing, together
from engram.storage.connection import Connection
from engram.storage.deduplicating import reading
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import statement
from engram.storage.updating import clear_vectors

Left = Literal[
    "gone", "changed", "not_active", "namespace", "owners", "pinned", "metadata", "expired",
    "taken", "capped", "stopped", "moved",
]  # fmt: skip
"""Why a group was left as it is; docs/dedup-undo.md explains each."""

_OWNERS = ("user_id", "agent_id", "session_id", "app_id")
Row = asyncpg.Record


@dataclass(frozen=True, slots=True)
class Cause:
    """Who merges, and on what ground.

    Attributes:
        run_id: the run it belongs to, None for what a person accepts.
        actor: id of a key, or the name of a service.
        rule_version: of the guard that compared the texts.
        reason: a word for the ledger, such as ``guard`` or ``accepted``.
        by_person: somebody has looked at both: disagreeing metadata is no hindrance.
        space: the vectors that were compared, when some were: what does not read that space any
            more is left (``moved``).
    """

    workspace: UUID
    actor: str
    run_id: UUID | None = None
    rule_version: str = ""
    reason: str = ""
    by_person: bool = False
    space: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A memory to be absorbed, in the version that was compared.

    Attributes:
        cosine: with the survivor, None when it was not taken.
        evidence: what the guard said of the two, as JSON; it goes when either is deleted.
    """

    id: UUID
    version: int
    cosine: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A survivor, in the version that was compared, and what it absorbs."""

    survivor: UUID
    version: int
    members: tuple[Member, ...]

    @property
    def ids(self) -> tuple[UUID, ...]:
        """Every memory of the group, the survivor first."""
        return self.survivor, *(member.id for member in self.members)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one group.

    Attributes:
        merge_id: of the ledger, None when the group was left as it is.
        left: why it was.
        memory_id: the memory that was in the way, where it was one.
    """

    group: Group
    merge_id: UUID | None = None
    left: Left | None = None
    memory_id: UUID | None = None


async def apply_group(connection: Connection, cause: Cause, group: Group, now: datetime) -> Applied:
    """Merge one group; as `apply_groups`."""
    return (await apply_groups(connection, cause, [group], now))[0]


async def apply_groups(
    connection: Connection, cause: Cause, groups: Sequence[Group], now: datetime
) -> list[Applied]:
    """Merge groups in the same few statements, however many and large they are.

    All memories are locked in ascending id and looked at again; a group of which anything has
    changed is left alone and reported. Of a run that was cancelled, or that has reached its cap,
    nothing more is merged; the cap ends the run. Groups must not share a memory: the later one is
    left (``taken``). A few hundred memories at a time keep the locks short.

    Args:
        connection: in a READ COMMITTED transaction that sees the workspace.
        cause: who merges and why; its run, if any, is of the same workspace.
        groups: each a survivor and at least one member, in the versions that were compared.
        now: time of the merge.

    Returns:
        One outcome for each group, in order.
    """
    wanted = [memory for group in groups for memory in group.ids]
    rows = await locked(connection, cause.workspace, wanted)
    checked = await _where_read(connection, cause, _checked(groups, rows, cause, now), rows)
    outcomes = await _within_cap(connection, cause, checked, now)
    merging = [outcome for outcome in outcomes if outcome.merge_id]
    if merging:
        await _merge(connection, cause, merging, rows, now)
    return outcomes


async def locked(
    connection: Connection, workspace: UUID, ids: Iterable[UUID]
) -> dict[UUID, asyncpg.Record]:
    """Lock memories in ascending id and return them as they are then; unknown ones are absent."""
    rows = await connection.fetch(statement("merge", "lock"), workspace, sorted(set(ids)))
    return {row["id"]: row for row in rows}


def _checked(
    groups: Sequence[Group], rows: Mapping[UUID, Row], cause: Cause, now: datetime
) -> list[Applied]:
    seen: set[UUID] = set()
    found = []
    for group in groups:
        left = _hindrance(group, rows, seen, cause, now)
        if left is None:
            seen.update(group.ids)
            found.append(Applied(group, uuid7()))
        else:
            found.append(Applied(group, None, *left))
    return found


def _hindrance(
    group: Group, rows: Mapping[UUID, Row], seen: set[UUID], cause: Cause, now: datetime
) -> tuple[Left, UUID | None] | None:
    """Return what keeps a group from being merged, and which memory of it."""
    if len(set(group.ids)) < len(group.ids) or not group.members:
        return "taken", group.survivor
    versions = {member.id: member.version for member in group.members}
    versions[group.survivor] = group.version
    for memory, version in versions.items():
        if memory in seen:
            return "taken", memory
        left = _changed(rows.get(memory), rows.get(group.survivor), version, now)
        if left is not None:
            return left, memory
    if not cause.by_person and disagreeing(rows[memory]["metadata"] for memory in versions):
        return "metadata", None
    return None


def _changed(row: Row | None, survivor: Row | None, version: int, now: datetime) -> Left | None:
    if row is None or survivor is None or row["state"] in ("deleted", "staged"):
        return "gone"
    differs: dict[Left, bool] = {
        "changed": row["version"] != version,
        "not_active": row["state"] != "active",
        "namespace": row["namespace"] != survivor["namespace"],
        "owners": any(row[name] != survivor[name] for name in _OWNERS),
        "pinned": row["pinned"] and row["id"] != survivor["id"],
        "expired": row["expires_at"] is not None and row["expires_at"] <= now,
    }
    return next((left for left, is_so in differs.items() if is_so), None)


async def _where_read(
    connection: Connection, cause: Cause, checked: Sequence[Applied], rows: Mapping[UUID, Row]
) -> list[Applied]:
    """Leave what was compared in a space that its namespace does not read any more.

    The pointer is read here and not locked: one that moves after this moves after the merge.
    """
    if cause.space is None:
        return list(checked)
    place = {one.group.survivor: rows[one.group.survivor]["namespace"] for one in checked
             if one.merge_id}  # fmt: skip
    names = sorted(set(place.values()))
    there = await reading(connection, cause.workspace, names, cause.space) if names else set()
    return [
        one if one.merge_id is None or place[one.group.survivor] in there else _left(one, "moved")
        for one in checked
    ]


async def _within_cap(
    connection: Connection, cause: Cause, checked: Sequence[Applied], now: datetime
) -> list[Applied]:
    """Leave what the run may no longer merge; the run's row is locked after the memories."""
    if cause.run_id is None or not any(outcome.merge_id for outcome in checked):
        return list(checked)
    run = await connection.fetchrow(statement("merge", "lock_run"), cause.workspace, cause.run_id)
    if run is None or run["state"] != "running":
        return [_left(outcome, "stopped") for outcome in checked]
    room = None if run["merge_cap"] is None else run["merge_cap"] - run["merged"]
    found, merged = [], 0
    for outcome in checked:
        size = len(outcome.group.members)
        fits = room is None or merged + size <= room
        if outcome.merge_id and fits:
            merged += size
        found.append(outcome if fits else _left(outcome, "capped"))
    capped = any(outcome.left == "capped" for outcome in found)
    await connection.execute(
        statement("merge", "count_merged"), cause.workspace, cause.run_id, merged, capped, now
    )
    return found


def _left(outcome: Applied, left: Left) -> Applied:
    return Applied(outcome.group, None, left) if outcome.merge_id else outcome


async def _merge(
    connection: Connection,
    cause: Cause,
    merging: Sequence[Applied],
    rows: Mapping[UUID, Row],
    now: datetime,
) -> None:
    absorbed = {m.id: one.group.survivor for one in merging for m in one.group.members}
    before = {memory: Values.of(row) for memory, row in rows.items()}
    after = {
        one.group.survivor: together(
            before[one.group.survivor], [before[m.id] for m in one.group.members], now
        )
        for one in merging
    }
    everyone = [*absorbed, *after]
    workspaces = [cause.workspace] * len(everyone)
    await connection.execute(
        statement("merge", "absorb"), cause.workspace, list(absorbed), list(absorbed.values()), now
    )
    await carry(connection, cause.workspace, after)
    # They are active, so nothing absorbs them: what the ledger still says of that is over.
    await connection.execute(statement("write", "leave_survivors"), workspaces, everyone, now)
    await _write_ledger(connection, cause, merging, before, after, now)
    # Vectors in later statements than the rows, or one that is being written now would stay.
    gone = list(absorbed)
    await clear_vectors(connection, [cause.workspace] * len(gone), gone)
    await connection.execute(statement("memory", "erase_failures"), cause.workspace, gone)
    await announce(connection, _said(cause.workspace, absorbed, after, rows), now)


def _said(
    workspace: UUID, absorbed: Iterable[UUID], survivors: Iterable[UUID], rows: Mapping[UUID, Row]
) -> Iterable[Announcement]:
    for memory in absorbed:
        yield Announcement("merged", workspace, memory, rows[memory]["version"])
    for memory in survivors:
        yield Announcement("updated", workspace, memory, rows[memory]["version"])


async def carry(connection: Connection, workspace: UUID, values: Mapping[UUID, Values]) -> None:
    """Give memories, which the caller has locked, these values."""
    columns = [[getattr(one, name) for one in values.values()] for name in VALUE_NAMES]
    await connection.execute(statement("merge", "carry"), workspace, list(values), *columns)


async def _write_ledger(
    connection: Connection,
    cause: Cause,
    merging: Sequence[Applied],
    before: Mapping[UUID, Values],
    after: Mapping[UUID, Values],
    now: datetime,
) -> None:
    survivors = [one.group.survivor for one in merging]
    await connection.execute(
        statement("merge", "insert_merges"),
        cause.workspace,
        [one.merge_id for one in merging],
        cause.run_id,
        cause.actor,
        now,
        cause.reason,
        cause.rule_version,
        survivors,
        [one.group.version for one in merging],
        [before[survivor].to_json() for survivor in survivors],
        [after[survivor].to_json() for survivor in survivors],
        [len(one.group.members) for one in merging],
    )
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    for one in merging:
        for member in one.group.members:
            for name, value in _member_row(one, member, before[member.id]).items():
                columns[name].append(value)
    await connection.execute(
        statement("merge", "insert_members"), cause.workspace, *columns.values()
    )


def _member_row(one: Applied, member: Member, before: Values) -> dict[str, Any]:
    carried = before.to_json()
    return {
        "merge_id": one.merge_id,
        "memory_id": member.id,
        "version": member.version,
        "before": {"state": "active", "updated_at": carried["updated_at"]},
        "cosine": member.cosine,
        "evidence": dict(member.evidence),
        "carried": carried,
    }
