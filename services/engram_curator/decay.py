"""The decay sweep: namespace by namespace, what has faded is archived, never more than the cap."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from uuid import UUID

import structlog

from engram import metrics
from engram.domain.decay import allowance
from engram.domain.decay_settings import Rules
from engram.serving.process import Service
from engram.storage import decay_clock, decay_runs, decay_settings, decaying
from engram.storage.connection import Connection
from engram.storage.contention import until_won
from engram.storage.decay_runs import Run
from engram.storage.decaying import Candidate, Picked

log = structlog.get_logger(__name__)

ACTOR = "curator"
# Of one statement that picks: namespaces, and memories it may return.
_NAMESPACES = 1_000
_PICKS = 200_000


def _steady_s() -> float:
    """Return a clock that nobody sets and that counts while the machine sleeps."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@dataclass(slots=True)
class Watch:
    """When this process last looked at the database's clock, by that clock and by a steady one."""

    seen_at: datetime | None = None
    steady_s: float = field(default_factory=_steady_s)


async def look_at_clock(service: Service, watch: Watch) -> datetime:
    """Look at the clock that fading goes by, and say it when it was set; return its instant."""
    elapsed_s = _steady_s() - watch.steady_s
    async with service.pool.acquire() as connection:
        clock, set_by_s = await decay_clock.look(connection, watch.seen_at, elapsed_s)
    watch.seen_at, watch.steady_s = clock.seen_at, _steady_s()
    if set_by_s:
        direction = "forwards" if set_by_s > 0 else "backwards"
        metrics.DECAY_CLOCK_SET.labels(direction).inc()
        log.error(
            "the clock of the database was set; decay does not follow",
            set_by_s=round(set_by_s, 1),
            withheld_s=round(clock.withheld_s, 1),
        )
    return clock.now


async def see_clock(service: Service, watch: Watch) -> None:
    """Look at the clock, so that a step of it is seen by who can tell how far."""
    await look_at_clock(service, watch)


async def decay(service: Service, watch: Watch) -> None:
    """Archive what has faded, in every workspace; the trouble of one does not stop the others.

    Raises:
        Exception: the first that a workspace met, after the others were swept.
    """
    now = await look_at_clock(service, watch)
    async with service.pool.acquire() as connection:
        rules = await decay_settings.all_rules(connection)
        found = await decaying.survey(connection, rules, now)
    failed: list[Exception] = []
    for workspace, candidates in groupby(found, key=lambda one: one.workspace):
        try:
            await _Sweeping(service, workspace, now).scheduled(list(candidates))
        except Exception as error:  # noqa: BLE001 - raised below
            log.error("workspace not swept", workspace=str(workspace), error=type(error).__name__)
            failed.append(error)
    if failed:
        raise failed[0]


async def decay_on_request(service: Service, watch: Watch) -> None:
    """Carry out the runs that were asked for, and those that a process has left."""
    now = await look_at_clock(service, watch)
    while True:
        async with service.pool.acquire() as connection:
            run = await decay_runs.claim(connection)
            if run is None:
                return
            rules = {run.workspace: await decay_settings.rules_of(connection, run.workspace)}
            found = await _surveyed(connection, run, rules, now)
        await _Sweeping(service, run.workspace, now, run).carried_out(found)


async def _surveyed(
    connection: Connection, run: Run, rules: Mapping[UUID, Rules], now: datetime
) -> list[Candidate]:
    return await decaying.survey(
        connection, rules, now, workspace=run.workspace, namespace=run.namespace
    )


@dataclass(slots=True)
class _Sweeping:
    """One run over one workspace; it becomes a row when there is something to archive."""

    service: Service
    workspace: UUID
    now: datetime
    run: Run | None = None

    async def scheduled(self, found: Sequence[Candidate]) -> None:
        """Go on with what was left here, or begin anew."""
        async with self.service.pool.acquire() as connection:
            self.run = await decay_runs.take_over(connection, self.workspace)
        await self.carried_out(found)

    async def carried_out(self, found: Sequence[Candidate]) -> None:
        """Archive what is due of these namespaces, and end the run."""
        try:
            await self._all(found)
        except Exception as error:
            await self._finish("failed", type(error).__name__)
            raise
        await self._finish("done", None)

    async def _all(self, found: Sequence[Candidate]) -> None:
        async for picked in self._picked(found):
            run = await self._begun()
            if run is None:
                return
            await self._archive(run, picked)
            await self._slow(run, picked.slowed)

    async def _picked(self, found: Sequence[Candidate]) -> AsyncIterator[Picked]:
        for page in _pages(found):
            async with self.service.pool.acquire() as connection:
                picked = await decaying.pick(connection, page, self.now, self.run)
            if picked.picks or picked.slowed:
                yield picked

    async def _begun(self) -> Run | None:
        """Begin the run where it has not; None where another one runs in the workspace."""
        if self.run is None:
            async with self.service.pool.acquire() as connection:
                self.run = await decay_runs.begin(connection, self.workspace, ACTOR)
        if self.run is None:
            log.info("decay is running already", workspace=str(self.workspace))
        return self.run

    async def _archive(self, run: Run, picked: Picked) -> None:
        for start in range(0, len(picked.picks), decaying.BATCH):
            batch = picked.picks[start : start + decaying.BATCH]
            archived = await until_won(partial(self._one, run, batch))
            metrics.DECAY_ARCHIVED.inc(archived)
            self.service.relay.wake()

    async def _one(self, run: Run, batch: Sequence[decaying.Pick]) -> int:
        async with self.service.pool.acquire() as connection, connection.transaction():
            return await decaying.archive(connection, run, batch, datetime.now(UTC))

    async def _slow(self, run: Run, namespaces: Sequence[str]) -> None:
        if not namespaces:
            return
        metrics.DECAY_SLOWED.inc(len(namespaces))
        log.warning(
            "decay slowed",
            workspace=str(self.workspace),
            run=str(run.id),
            namespaces=len(namespaces),
        )
        async with self.service.pool.acquire() as connection:
            await decay_runs.slow(connection, run, namespaces)

    async def _finish(self, state: decay_runs.State, error: str | None) -> None:
        if self.run is None:
            return
        async with self.service.pool.acquire() as connection:
            ended = await decay_runs.finish(connection, self.run, state, error)
        log.info(
            "decay ended",
            workspace=str(self.workspace),
            run=str(ended.id),
            state=ended.state,
            archived=ended.archived,
            slowed=ended.slowed,
        )


def _pages(found: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Cut namespaces into pages, by their number and by how much may come of them."""
    page: list[Candidate] = []
    picks = 0
    for one in found:
        most = allowance(one.active)
        if page and (len(page) >= _NAMESPACES or picks + most > _PICKS):
            yield page
            page, picks = [], 0
        page.append(one)
        picks += most
    if page:
        yield page
