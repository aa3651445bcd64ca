"""Finds what has faded, archives it in small ordered transactions, and brings it back."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from engram.domain.decay import DAY_S, DEFAULT, Policy, allowance, faded
from engram.domain.decay_settings import Rules
from engram.errors import ConflictError
from engram.storage import auditing
from engram.storage.changing import unknown_memory
from engram.storage.connection import Connection
from engram.storage.decay_runs import LEASE, Run, show
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import statement
from engram.storage.updating import clear_vectors

# Of one transaction: enough to be quick, few enough that nobody waits for its locks.
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A namespace that may hold something due.

    Attributes:
        active: how many active memories it has.
        policy: that it fades by.
    """

    workspace: UUID
    namespace: str
    active: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Pick:
    """A memory that is due, as it was judged."""

    id: UUID
    namespace: str
    importance: float
    reinforced_at: datetime
    importance_left: float


@dataclass(frozen=True, slots=True)
class Picked:
    """What a run may archive of some namespaces, and which of them it must leave some of."""

    picks: list[Pick]
    slowed: list[str]


async def survey(
    connection: Connection,
    rules: Mapping[UUID, Rules],
    now: datetime,
    *,
    workspace: UUID | None = None,
    namespace: str | None = None,
) -> list[Candidate]:
    """Return the namespaces that may hold something due, in one pass over the active memories.

    Args:
        connection: sees the workspaces.
        rules: of the workspaces that have any.
        now: the instant that ages are counted to.
        workspace: only this one.
        namespace: only this one.
    """
    bounds = {owner: listed.bound() for owner, listed in rules.items()}
    rows = await connection.fetch(
        statement("decay", "survey"),
        workspace,
        now,
        list(bounds),
        *_columns(list(bounds.values())),
        *(column[0] for column in _columns([DEFAULT])),
        namespace,
    )
    none = Rules()
    found = []
    for row in rows:
        policy = rules.get(row["workspace"], none).policy(row["namespace"])
        if policy.archives:
            found.append(Candidate(row["workspace"], row["namespace"], row["active"], policy))
    return found


def _columns(policies: Sequence[Policy]) -> tuple[list[float], list[float], list[float]]:
    """Return half-lives in seconds, floors (0 where nothing is archived) and graces in seconds."""
    return (
        [one.half_life_days * DAY_S for one in policies],
        [one.floor if one.archives else 0.0 for one in policies],
        [one.grace_days * DAY_S for one in policies],
    )


async def count_due(
    connection: Connection, found: Sequence[Candidate], instants: Sequence[datetime]
) -> dict[str, list[int]]:
    """Return how many memories are due at each instant, by namespace; zeros are left out.

    Args:
        connection: sees the workspace.
        found: namespaces of one workspace.
        instants: that ages are counted to.
    """
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(instants))
    if found:
        rows = await connection.fetch(
            statement("decay", "due"),
            found[0].workspace,
            [one.namespace for one in found],
            *_columns([one.policy for one in found]),
            list(instants),
        )
        for row in rows:
            counts[row["namespace"]][row["place"] - 1] = row["due"]
    return dict(counts)


async def pick(
    connection: Connection, found: Sequence[Candidate], now: datetime, run: Run | None
) -> Picked:
    """Choose what a run may archive of some namespaces: what is due longest, within the cap.

    Args:
        connection: of the worker role.
        found: namespaces of one workspace.
        now: the instant that ages are counted to.
        run: one that goes on after an interruption: what it has archived counts under its cap.
    """
    before = await _archived_before(connection, run)
    allowed = {one.namespace: allowance(one.active, before[one.namespace]) for one in found}
    rows = await connection.fetch(
        statement("decay", "pick"),
        found[0].workspace,
        list(allowed),
        *_columns([one.policy for one in found]),
        now,
        list(allowed.values()),
    )
    policies = {one.namespace: one.policy for one in found}
    slowed = {row["namespace"] for row in rows if row["due"] > allowed[row["namespace"]]}
    picks = [
        Pick(id_, namespace, importance, at, _left(importance, at, now, policies[namespace]))
        for id_, namespace, importance, at, _ in rows
        if allowed[namespace]
    ]
    return Picked(sorted(picks, key=lambda one: one.id), sorted(slowed))


def _left(importance: float, reinforced_at: datetime, now: datetime, policy: Policy) -> float:
    return faded(importance, reinforced_at, now, half_life_days=policy.half_life_days)


async def _archived_before(connection: Connection, run: Run | None) -> Counter[str]:
    if run is None or not run.archived:
        return Counter()
    sql = statement("decay", "archived_of_namespaces")
    rows = await connection.fetch(sql, run.workspace, run.id)
    return Counter({row["namespace"]: row["archived"] for row in rows})


async def archive(connection: Connection, run: Run, batch: Sequence[Pick], now: datetime) -> int:
    """Archive what still is as it was judged; return how many that were.

    Memories first, vectors in a later statement, the run's own row last: see ARCHITECTURE.md.

    Args:
        connection: in a READ COMMITTED transaction of the worker role.
        run: that is running.
        batch: in ascending id.
        now: the wall clock, for what is written.
    """
    workspace = run.workspace
    rows = await connection.fetch(
        statement("decay", "lock_due"),
        workspace,
        [one.id for one in batch],
        [one.importance for one in batch],
        [one.reinforced_at for one in batch],
    )
    versions = {row["id"]: row["version"] for row in rows}
    ids, chosen = list(versions), [one for one in batch if one.id in versions]
    if ids:
        await connection.execute(statement("decay", "archive"), workspace, ids, now)
        await clear_vectors(connection, [workspace] * len(ids), ids)
        await connection.execute(statement("memory", "erase_failures"), workspace, ids)
        await _enter(connection, run, chosen, now)
        said = (Announcement("archived", workspace, id_, versions[id_]) for id_ in ids)
        await announce(connection, said, now)
    sql = statement("decay", "progress_run")
    await connection.execute(sql, workspace, run.id, len(ids), LEASE)
    return len(ids)


async def _enter(connection: Connection, run: Run, chosen: Sequence[Pick], now: datetime) -> None:
    ids = [one.id for one in chosen]
    await connection.execute(statement("decay", "leave_earlier"), run.workspace, ids, now)
    await connection.execute(
        statement("decay", "enter"),
        run.workspace,
        run.id,
        ids,
        [one.namespace for one in chosen],
        [one.importance_left for one in chosen],
        now,
    )


@dataclass(slots=True)
class Restored:
    """What a restore of a run came to.

    Attributes:
        restored: memories that are active again.
        kept: how many stay as they are: deleted since, or not archived any more.
    """

    restored: int = 0
    kept: int = 0

    def add(self, other: "Restored") -> None:
        """Add what another part came to."""
        self.restored += other.restored
        self.kept += other.kept


async def restore_some(
    connection: Connection, workspace: UUID, run_id: UUID, after: UUID, actor: str, now: datetime
) -> tuple[Restored, UUID | None]:
    """Restore the next few memories that a run has archived, and enter it in the audit trail.

    Args:
        connection: in a transaction that sees the workspace.
        workspace: whose run.
        run_id: the run.
        after: the id where the call before ended; the lowest uuid to start.
        actor: who restores.
        now: the wall clock.

    Returns:
        What came of these, and where to go on; None at the end.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: it is running.
    """
    run = await show(connection, workspace, run_id)
    if run.state == "running":
        raise ConflictError(
            "run_running", "The run is still running.", cure="Wait until it is done."
        )
    sql = statement("decay", "archived_by")
    ids = [row["memory_id"] for row in await connection.fetch(sql, workspace, run_id, after, BATCH)]
    restored = await _restore(connection, workspace, ids, now)
    part = Restored(restored, len(ids) - restored)
    if restored:
        await _record(connection, workspace, actor, str(run_id), asdict(part))
    return part, ids[-1] if len(ids) == BATCH else None


async def _restore(
    connection: Connection, workspace: UUID, ids: Sequence[UUID], now: datetime
) -> int:
    """Make archived memories active again, and ring for their vectors."""
    rows = await connection.fetch(statement("decay", "lock_archived"), workspace, list(ids))
    back = [row for row in rows if row["state"] == "archived"]
    found = [row["id"] for row in back]
    if found:
        await connection.execute(statement("decay", "restore"), workspace, found, now)
        marked = await connection.fetch(statement("decay", "mark_restored"), workspace, found, now)
        runs = Counter(row["run_id"] for row in marked)
        sql = statement("decay", "count_restored")
        await connection.execute(sql, workspace, list(runs), list(runs.values()))
        said = (Announcement("restored", workspace, row["id"], row["version"]) for row in back)
        await announce(connection, said, now)
    return len(found)


async def restore_memory(
    connection: Connection, workspace: UUID, memory_id: UUID, actor: str, now: datetime
) -> None:
    """Make one archived memory active again, whatever archived it; an active one stays as it is.

    Raises:
        NotFoundError: unknown, deleted, or of another workspace.
        ConflictError: it is merged or superseded.
    """
    rows = await connection.fetch(statement("decay", "lock_archived"), workspace, [memory_id])
    if not rows:
        raise unknown_memory()
    state = rows[0]["state"]
    if state not in ("active", "archived"):
        raise ConflictError(
            "not_archived",
            f"The memory is not archived but {state}.",
            cure="What was merged comes back by undoing its merge.",
        )
    if await _restore(connection, workspace, [memory_id], now):
        await _record(connection, workspace, actor, str(memory_id), {"restored": 1})


async def _record(
    connection: Connection, workspace: UUID, actor: str, subject: str, counts: dict[str, Any]
) -> None:
    entry = auditing.Entry(workspace, actor, "decay.restored", subject, counts)
    await auditing.record(connection, entry)
