"""The dedup sweep's side of the store: what is dirty, who compares it, what is read."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from engram.domain.dedup_decision import Thresholds
from engram.domain.dedup_thresholds import default_thresholds
from engram.storage.connection import Connection
from engram.storage.queries import statement, vector_table

_START = UUID(int=0)
_PLAN_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Task:
    """One namespace of a run, claimed.

    Attributes:
        compared_seq: pairs of vectors up to this ``seq`` were compared by an earlier run.
        newest_seq: of the namespace when the run was planned.
        rows: vectors it had then.
        merges: what was decided to merge, when somebody before us came so far.
    """

    namespace: str
    space: int
    compared_seq: int
    newest_seq: int
    rows: int
    merges: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Claim:
    """Who works on some namespaces of a run."""

    workspace: UUID
    run_id: UUID
    holder: UUID


async def dirty_workspaces(connection: Connection, space: int, mark: str) -> list[UUID]:
    """Return workspaces with a vector in this space that was not compared by these rules yet.

    Args:
        connection: of the worker role.
        space: id of the space.
        mark: names the rules: `engram.domain.dedup_texts.mark`.
    """
    sql = _dirty("dirty_workspaces", space)
    return [row["workspace"] for row in await connection.fetch(sql, space, mark)]


async def plan(
    connection: Connection,
    workspace: UUID,
    run_id: UUID,
    marks: Mapping[int, str],
    namespace: str | None,
    *,
    full: bool,
) -> tuple[int, int] | None:
    """Write down which namespaces a run has to compare; None when that is done, or the run over.

    Args:
        connection: in a transaction of the worker role.
        workspace: of the run.
        run_id: which.
        marks: of the rules, by the id of each space.
        namespace: only this one.
        full: compare everything, not only what is new.

    Returns:
        How many namespaces, with how many vectors.
    """
    if not await connection.fetchval(statement("dedup", "start_plan"), workspace, run_id):
        return None
    for space, mark in marks.items():
        # A mark that no namespace has makes every one of them dirty, from its first vector on.
        given = (space, "" if full else mark, workspace, run_id, namespace, full)
        await connection.execute(_dirty("plan", space), *given, timeout=_PLAN_TIMEOUT_S)
    row = await connection.fetchrow(statement("dedup", "planned"), workspace, run_id)
    return (row["namespaces"], row["memories"]) if row else (0, 0)


async def open_runs(connection: Connection) -> list[tuple[UUID, UUID]]:
    """Return (workspace, id) of every run that is running, wherever."""
    rows = await connection.fetch(statement("dedup", "open_runs"))
    return [(row["workspace"], row["id"]) for row in rows]


async def claim(
    connection: Connection, who: Claim, lease: timedelta, about_rows: int
) -> list[Task]:
    """Claim namespaces nobody works on: as many of one space as hold about so many vectors."""
    rows = await connection.fetch(
        statement("dedup", "claim"), who.workspace, who.run_id, who.holder, lease, about_rows
    )
    return sorted((Task(*row) for row in rows), key=lambda task: task.namespace)


async def extend(connection: Connection, who: Claim, lease: timedelta) -> bool:
    """Keep a claim; False when nothing of it is left."""
    found = await connection.fetch(
        statement("dedup", "extend"), who.workspace, who.run_id, who.holder, lease
    )
    return bool(found)


async def release(connection: Connection, who: Claim) -> None:
    """Give back what is not done, so that others need not wait for the lease to pass."""
    await connection.execute(statement("dedup", "release"), who.workspace, who.run_id, who.holder)


async def seqs_are_settled(connection: Connection, who: Claim) -> bool:
    """Say whether no vector can still come in below the newest one that was planned with.

    A ``seq`` is drawn before its transaction commits, so a lower one may appear after a higher one;
    it cannot once every transaction that was open at the planning has ended.
    """
    return bool(
        await connection.fetchval(
            statement("dedup", "settled_seqs"), who.workspace, who.run_id, who.holder
        )
    )


async def texts(
    connection: Connection, workspace: UUID, ids: Sequence[UUID], page: int = 2_000
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield what is compared of live memories, as JSON values, some at a time.

    ``decided`` says that a person decided something about the memory and another one.
    """
    for start in range(0, len(ids), page):
        part = list(ids[start : start + page])
        rows = await connection.fetch(statement("dedup", "texts"), workspace, part)
        decided = await connection.fetch(statement("dedup", "decided_on"), workspace, part)
        about = {row["id"] for row in decided}
        yield [
            {
                **row,
                "id": row["id"].hex,
                "created_at": row["created_at"].timestamp(),
                "decided": row["id"] in about,
            }
            for row in rows
        ]


async def keep_merges(
    connection: Connection, who: Claim, namespace: str, merges: list[dict[str, Any]]
) -> None:
    """Keep what was decided to merge, for whoever has to go on."""
    await connection.execute(
        statement("dedup", "keep_merges"),
        *(who.workspace, who.run_id, namespace, who.holder, merges),
    )


async def task_done(connection: Connection, who: Claim, namespace: str) -> bool:
    """Close a namespace; False when somebody else has it by now."""
    found = await connection.fetchval(
        statement("dedup", "task_done"), who.workspace, who.run_id, namespace, who.holder
    )
    return found is not None


async def advance(
    connection: Connection, workspace: UUID, namespace: str, seq: int, mark: str
) -> None:
    """Note that all pairs up to ``seq`` were compared by the rules that ``mark`` names."""
    await connection.execute(statement("dedup", "advance"), workspace, namespace, seq, mark)


async def keep_preview(
    connection: Connection, who: Claim, namespace: str, merges: Sequence[Mapping[str, Any]]
) -> None:
    """Keep what a dry run would merge."""
    await connection.execute(
        statement("dedup", "preview"),
        *(who.workspace, who.run_id, namespace),
        [UUID(merge["survivor"]) for merge in merges],
        ["{" + ",".join(member["id"] for member in merge["members"]) + "}" for merge in merges],
    )


async def preview_page(
    connection: Connection, workspace: UUID, run_id: UUID, after: UUID = _START, limit: int = 50
) -> list[dict[str, Any]]:
    """Return up to ``limit`` groups a dry run would merge, with their texts as they are now."""
    rows = await connection.fetch(
        statement("dedup", "preview_page"), workspace, run_id, after, limit
    )
    wanted = [one for row in rows for one in (row["survivor"], *row["members"])]
    said = await connection.fetch(statement("dedup", "contents"), workspace, wanted)
    contents = {row["id"]: row["content"] for row in said}

    def shown(memory: UUID) -> dict[str, Any]:
        return {"id": str(memory), "content": contents.get(memory)}

    return [
        {
            "id": str(row["survivor"]),
            "namespace": row["namespace"],
            "survivor": shown(row["survivor"]),
            "members": [shown(memory) for memory in row["members"]],
            "member_count": row["member_count"],
        }
        for row in rows
    ]


async def left(connection: Connection, workspace: UUID, run_id: UUID) -> int:
    """Return how many namespaces of a run are not done."""
    return int(await connection.fetchval(statement("dedup", "left"), workspace, run_id))


async def held(connection: Connection, workspace: UUID, run_id: UUID) -> int:
    """Return how many namespaces a run has left alone because of its cap."""
    return int(await connection.fetchval(statement("dedup", "held"), workspace, run_id) or 0)


async def clear(connection: Connection) -> None:
    """Forget what belongs to runs that have ended, and previews of a month ago."""
    await connection.execute(statement("dedup", "clear_tasks"))
    await connection.execute(statement("dedup", "clear_previews"))


async def thresholds_of(connection: Connection, space: int) -> Thresholds:
    """Return the thresholds of a space: calibrated ones, or those it starts with.

    A space to which a migration moves, or has moved, may merge nothing before it is calibrated.
    """
    row = await connection.fetchrow(statement("dedup", "standing"), space)
    if row is not None and row["merge_from"] is not None:
        return Thresholds(row["merge_from"], row["propose_from"])
    return default_thresholds(may_merge=row is not None and not row["entered"])


async def uncalibrated(connection: Connection) -> list[int]:
    """Return the spaces that are read, came by a migration, and may merge nothing yet."""
    return [row["id"] for row in await connection.fetch(statement("dedup", "uncalibrated"))]


async def calibrate(connection: Connection, space: int, found: Thresholds) -> bool:
    """Keep thresholds for a space that has none; False when it has some by now, or is gone."""
    sql = statement("dedup", "calibrated")
    return await connection.fetchval(sql, space, found.merge, found.propose) is not None


async def is_planned(connection: Connection, workspace: UUID, run_id: UUID) -> bool:
    """Say whether somebody has planned a run."""
    return bool(await connection.fetchval(statement("dedup", "is_planned"), workspace, run_id))


async def reading(
    connection: Connection, workspace: UUID, names: Sequence[str], space: int
) -> set[str]:
    """Return which of these namespaces read this space at this moment."""
    rows = await connection.fetch(statement("dedup", "reading"), workspace, list(names), space)
    return {row["name"] for row in rows}


async def set_thresholds(connection: Connection, key: str, found: Thresholds) -> bool:
    """Keep the thresholds of a space, by its key; False when there is no such space."""
    row = await connection.fetchval(
        statement("dedup", "set_thresholds"), key, found.merge, found.propose
    )
    return row is not None


def _dirty(name: str, space: int) -> str:
    sql = statement("dedup", name).replace("{dirty}", statement("dedup", "dirty"))
    return sql.replace("{vectors}", vector_table(space))
