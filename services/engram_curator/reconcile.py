"""The reconcile sweep: vectors are held against live memories, and what differs is repaired."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from engram import metrics
from engram.serving.process import Service
from engram.storage import migration_leases, reconciling
from engram.storage.connection import CONTENDED, Connection
from engram.storage.reconciling import KINDS, Difference

log = structlog.get_logger(__name__)

_TRIES = 5
# A vector is never changed in place: one look is enough, and a daily one for disks and for people.
_LOOK_AGAIN_S = 86_400.0


@dataclass(slots=True)
class _Mark:
    """Which vectors of a space were looked at, by ``seq``.

    A pass may skip what the pass before the last one could see: a writer may commit a lower
    ``seq`` after a higher one, but not minutes later.
    """

    before_last: int = 0
    last: int = 0
    began_s: float = -_LOOK_AGAIN_S

    def begin(self, newest: int, now_s: float) -> int:
        """Start a pass that sees vectors up to ``newest``; return up to where it may skip."""
        if now_s - self.began_s >= _LOOK_AGAIN_S:
            self.before_last, self.last, self.began_s = 0, 0, now_s
        skip, self.before_last, self.last = self.before_last, self.last, newest
        return skip


@dataclass(slots=True)
class Looked:
    """What one process remembers from pass to pass, by space."""

    marks: dict[int, _Mark] = field(default_factory=dict)


@dataclass(slots=True)
class _Pass:
    """What one pass over one space came to."""

    found: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    due: int = 0
    oldest_s: float = 0.0

    def note(self, page: list[Difference]) -> None:
        self.found.update(d.kind for d in page)
        ages = [d.age_s for d in page if d.kind in ("missing", "stale")]
        self.oldest_s = max([self.oldest_s, *ages])


async def reconcile(service: Service, looked: Looked | None = None) -> None:
    """Look through every active space; the trouble of one does not keep the others waiting.

    Raises:
        Exception: the first that a space met, after the others were looked through.
    """
    looked = looked or Looked()
    failed: list[Exception] = []
    for space in service.spaces.active:
        label = service.spaces.key(space)
        try:
            _report(label, await _space(service, space, looked))
        except Exception as error:  # noqa: BLE001 - raised below
            log.error("space not reconciled", space=label, error=type(error).__name__)
            failed.append(error)
    if failed:
        raise failed[0]


async def _space(service: Service, space: int, looked: Looked) -> _Pass:
    outcome = _Pass()
    async with service.pool.acquire() as connection:
        dimensions = await _dimensions(service, connection, space, outcome)
        mark = looked.marks.pop(space, _Mark())
        newest = await reconciling.newest_seq(connection, space)
        skip = mark.begin(newest, time.monotonic())
        filling = await migration_leases.filling(connection)
        scope = service.spaces.workspaces(space), space in filling
        async with reconciling.differing(connection, space, dimensions, skip, *scope) as pages:
            async for page in pages:
                outcome.note(page)
                await _repair(connection, space, dimensions, page, outcome)
    # Not reached when the pass failed: the next one looks at everything again.
    looked.marks[space] = mark
    return outcome


async def _dimensions(service: Service, connection: Connection, space: int, outcome: _Pass) -> int:
    """Return the length to hold vectors against; report a column that takes another one only."""
    wanted = service.spaces.dimensions[space]
    column = await reconciling.column_dimensions(connection, space)
    if column is None or column == wanted:
        return wanted
    log.error(
        "vector column has another length than its space; no vector can be stored",
        space=service.spaces.key(space),
        column_dimensions=column,
        space_dimensions=wanted,
    )
    # None of its vectors can be used, and none can be replaced: deleting them would help nobody.
    outcome.found["dimension"] = max(1, await reconciling.count_vectors(connection, space))
    return column


async def _repair(
    connection: Connection, space: int, dimensions: int, page: list[Difference], outcome: _Pass
) -> None:
    """Repair one page in two short transactions: what must go, then what is to be embedded."""
    gone = [d for d in page if d.must_go]
    if gone:
        outcome.dropped += await _uncontended(
            connection, lambda: reconciling.drop_vectors(connection, space, dimensions, gone)
        )
    wanted = [d for d in page if d.kind != "orphan"]
    if wanted:
        outcome.due += await _uncontended(
            connection, lambda: reconciling.make_due(connection, space, wanted)
        )


async def _uncontended(connection: Connection, repair: Callable[[], Awaitable[int]]) -> int:
    """Run a repair in a transaction of its own, again when it lost a race for a lock."""
    for attempt in range(_TRIES):
        try:
            async with connection.transaction():
                return await repair()
        except CONTENDED:
            if attempt == _TRIES - 1:
                raise
    return 0


def _report(label: str, outcome: _Pass) -> None:
    """Export what was found, and say it when there is anything."""
    for kind in KINDS:
        metrics.RECONCILE_FOUND.labels(label, kind).set(outcome.found[kind])
    metrics.MISSING_AGE.labels(label).set(outcome.oldest_s)
    metrics.RECONCILE_REPAIRS.labels(label, "deleted").inc(outcome.dropped)
    metrics.RECONCILE_REPAIRS.labels(label, "due").inc(outcome.due)
    if outcome.found:
        log.warning(
            "vectors differed from their memories",
            space=label,
            **{kind: outcome.found[kind] for kind in KINDS if outcome.found[kind]},
            deleted=outcome.dropped,
            due=outcome.due,
            oldest_s=round(outcome.oldest_s, 1),
        )
