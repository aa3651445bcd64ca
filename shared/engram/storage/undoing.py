"""Undoes merges: what was absorbed is itself again, survivors give back what it had brought."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from engram.domain.merging import Entry, Shift, Values, replayed
from engram.errors import NotFoundError
from engram.storage import auditing
from engram.storage.connection import Connection
from engram.storage.contention import LostRaceError
from engram.storage.merging import carry, locked
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import statement

Kept = Literal["already", "deleted", "changed"]
"""Why a member stays: undone before, a tombstone, or not absorbed through this any more."""


@dataclass(slots=True)
class Undone:
    """What an undo came to.

    Attributes:
        restored: memories that are themselves again, with their versions.
        kept: how many members stay as they are, by the reason.
        merges: merges of which nothing is absorbed any more, through this undo.
    """

    restored: list[tuple[UUID, int]] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    merges: list[UUID] = field(default_factory=list)

    def add(self, other: "Undone") -> None:
        """Add what another undo came to."""
        self.restored += other.restored
        self.kept += other.kept
        self.merges += other.merges


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is undone: its members, and the survivors up to whoever absorbed them in turn."""

    members: list[asyncpg.Record]
    survivors: list[UUID]

    @property
    def ids(self) -> list[UUID]:
        return [*self.survivors, *(row["memory_id"] for row in self.members)]


async def undo_merges(
    connection: Connection,
    workspace: UUID,
    merge_ids: Sequence[UUID],
    *,
    actor: str,
    now: datetime,
    member: UUID | None = None,
) -> Undone:
    """Undo merges, or one member of them; doing it again changes nothing.

    What was changed since stays as it is, and tombstones stay tombstones. No version is touched.
    Restored memories are announced, so that their vectors come back.

    Args:
        connection: in a READ COMMITTED transaction that sees the workspace.
        workspace: whose merges.
        merge_ids: a few at a time; each member costs a lock.
        actor: who undoes, for the ledger.
        now: when.
        member: only this memory of them.

    Raises:
        NotFoundError: there is no such merge, or the memory is no member of it.
        LostRaceError: a survivor was absorbed meanwhile; begin the transaction anew.
    """
    scope = await _scope(connection, workspace, merge_ids, member)
    known = set(scope.ids)
    rows = await locked(connection, workspace, known)
    scope = await _scope(connection, workspace, merge_ids, member)
    if not known >= set(scope.ids):
        raise LostRaceError
    undone, current = Undone(), {memory: Values.of(row) for memory, row in rows.items()}
    live = [row for row in scope.members if row["undone_at"] is None]
    undone.kept.update("already" for row in scope.members if row["undone_at"] is not None)
    await _restore(connection, workspace, live, rows, current, undone)
    await _mark(connection, workspace, live, merge_ids, actor, now, undone)
    changed = await _replay(connection, workspace, scope.survivors, rows, current)
    said = [Announcement("restored", workspace, *one) for one in undone.restored]
    said += [Announcement("updated", workspace, one, rows[one]["version"]) for one in changed]
    await announce(connection, said, now)
    return undone


async def undo(
    connection: Connection,
    workspace: UUID,
    merge_id: UUID,
    *,
    actor: str,
    now: datetime,
    member: UUID | None = None,
) -> Undone:
    """Undo one merge, or one member of it, and enter it in the audit trail; as `undo_merges`."""
    done = await undo_merges(connection, workspace, [merge_id], actor=actor, now=now, member=member)
    if done.restored or done.merges:
        counts = {"restored": len(done.restored), **done.kept}
        entry = auditing.Entry(workspace, actor, "merge.undone", str(merge_id), counts)
        await auditing.record(connection, entry)
    return done


async def merges_of_run(
    connection: Connection, workspace: UUID, run_id: UUID, limit: int
) -> list[UUID]:
    """Return up to ``limit`` merges of a run that are not undone, the latest first."""
    rows = await connection.fetch(statement("undo", "of_run"), workspace, run_id, limit)
    return [row["id"] for row in rows]


async def _scope(
    connection: Connection, workspace: UUID, merge_ids: Sequence[UUID], member: UUID | None
) -> _Scope:
    ids = list(merge_ids)
    members = await connection.fetch(statement("undo", "members"), workspace, ids, member)
    if {row["merge_id"] for row in members} != set(ids):
        raise unknown_merge()
    survivors = await connection.fetch(statement("undo", "survivors"), workspace, ids)
    return _Scope(members, [row["survivor"] for row in survivors])


async def _restore(
    connection: Connection,
    workspace: UUID,
    live: Iterable[asyncpg.Record],
    rows: Mapping[UUID, asyncpg.Record],
    current: dict[UUID, Values],
    undone: Undone,
) -> None:
    """Make absorbed memories themselves again, and keep ``current`` in step."""
    back: list[tuple[UUID, str, datetime, datetime | None]] = []
    for member in live:
        memory, row = member["memory_id"], rows.get(member["memory_id"])
        kept = _kept(row, member["survivor"])
        if row is None or kept is not None:
            undone.kept[kept or "deleted"] += 1
            continue
        undone.restored.append((memory, row["version"]))
        before = member["before"].get("updated_at")
        updated_at = None if before is None else datetime.fromisoformat(before)
        back.append((memory, member["before"]["state"], member["created_at"], updated_at))
    if back:
        columns = map(list, zip(*back, strict=True))
        found = await connection.fetch(statement("undo", "restore"), workspace, *columns)
        current.update({row["id"]: Values.of(row) for row in found})


def _kept(row: asyncpg.Record | None, survivor: UUID) -> Kept | None:
    if row is None or row["state"] == "deleted":
        return "deleted"
    is_absorbed = row["state"] == "merged" and row["merged_into"] == survivor
    return None if is_absorbed else "changed"


async def _mark(
    connection: Connection,
    workspace: UUID,
    live: Sequence[asyncpg.Record],
    merge_ids: Sequence[UUID],
    actor: str,
    now: datetime,
    undone: Undone,
) -> None:
    await connection.execute(
        statement("undo", "mark_members"),
        workspace,
        [row["merge_id"] for row in live],
        [row["memory_id"] for row in live],
        now,
        actor,
    )
    ended = await connection.fetch(
        statement("undo", "mark_merges"), workspace, list(merge_ids), now
    )
    undone.merges = [row["id"] for row in ended]


async def _replay(
    connection: Connection,
    workspace: UUID,
    survivors: Sequence[UUID],
    rows: Mapping[UUID, asyncpg.Record],
    current: Mapping[UUID, Values],
) -> list[UUID]:
    """Give survivors what is left to carry; return those whose values changed.

    What a survivor brought to its own survivor changes with it, so this goes upwards.
    """
    histories = await _histories(connection, workspace, survivors)
    entries: dict[UUID, Entry] = {}
    parts: dict[tuple[UUID, UUID], Values] = {}
    values: dict[UUID, Values] = {}
    for survivor in histories.upwards():
        merges, shift = histories.replayed(survivor, parts)
        entries.update(merges)
        if shift is None:
            continue
        for merge_id in histories.absorbed_through.get(survivor, ()):
            parts[merge_id, survivor] = shift.moved(histories.parts[merge_id][survivor])
        moved = shift.moved(current[survivor])
        if moved != current[survivor] and rows[survivor]["state"] != "deleted":
            values[survivor] = moved
    await carry(connection, workspace, values)
    await _rewrite(connection, workspace, entries, parts)
    return list(values)


@dataclass(frozen=True, slots=True)
class _Histories:
    """The merges of some survivors, in order, and what is absorbed through each.

    Attributes:
        merges: rows of the ledger by survivor.
        parts: by merge, what each member that is still absorbed has brought.
        absorbed_through: the merges through which a survivor is absorbed itself: one, or none.
    """

    merges: dict[UUID, list[asyncpg.Record]]
    parts: dict[UUID, dict[UUID, Values]]
    absorbed_through: dict[UUID, list[UUID]]

    def upwards(self) -> list[UUID]:
        """Return the survivors so that what is absorbed comes before what absorbed it."""
        above = {row["id"]: survivor for survivor, rows in self.merges.items() for row in rows}
        order: list[UUID] = []

        def visit(survivor: UUID) -> None:
            # Whoever was visited later comes earlier, so the one above first.
            if survivor in order:
                return
            for merge_id in self.absorbed_through.get(survivor, ()):
                visit(above[merge_id])
            order.append(survivor)

        for survivor in self.merges:
            visit(survivor)
        return order[::-1]

    def replayed(
        self, survivor: UUID, moved: Mapping[tuple[UUID, UUID], Values]
    ) -> tuple[dict[UUID, Entry], Shift | None]:
        """Return a survivor's merges as they would have been, and how what followed moves."""
        given = [
            Entry(
                Values.from_json(row["survivor_before"]),
                Values.from_json(row["survivor_after"]),
                tuple(
                    moved.get((row["id"], memory), part)
                    for memory, part in self.parts[row["id"]].items()
                ),
                row["created_at"],
            )
            for row in self.merges[survivor]
        ]
        found, shift = replayed(given)
        ids = [row["id"] for row in self.merges[survivor]]
        changed = zip(ids, given, found, strict=True)
        return {id_: after for id_, before, after in changed if before != after}, shift


async def _histories(
    connection: Connection, workspace: UUID, survivors: Sequence[UUID]
) -> _Histories:
    found = await connection.fetch(statement("undo", "entries"), workspace, list(survivors))
    merges: defaultdict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for row in found:
        merges[row["survivor"]].append(row)
    ids = [row["id"] for row in found]
    parts: dict[UUID, dict[UUID, Values]] = {merge_id: {} for merge_id in ids}
    through: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for row in await connection.fetch(statement("undo", "parts"), workspace, ids):
        parts[row["merge_id"]][row["memory_id"]] = Values.from_json(row["carried"])
        if row["memory_id"] in merges:
            through[row["memory_id"]].append(row["merge_id"])
    return _Histories(dict(merges), parts, dict(through))


async def _rewrite(
    connection: Connection,
    workspace: UUID,
    entries: Mapping[UUID, Entry],
    parts: Mapping[tuple[UUID, UUID], Values],
) -> None:
    await connection.execute(
        statement("undo", "rewrite_entries"),
        workspace,
        list(entries),
        [entry.before.to_json() for entry in entries.values()],
        [entry.after.to_json() for entry in entries.values()],
    )
    await connection.execute(
        statement("undo", "rewrite_parts"),
        workspace,
        [merge_id for merge_id, _ in parts],
        [memory for _, memory in parts],
        [part.to_json() for part in parts.values()],
    )


def unknown_merge() -> NotFoundError:
    """Return the one answer for unknown merges, those of others, and no members of them."""
    return NotFoundError(
        "merge_not_found",
        "There is no such merge, or no such member of it.",
        cure="List the merges.",
    )
