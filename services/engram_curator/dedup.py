"""The dedup sweep: begins runs where something is new, and works on any run there is."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from engram import metrics
from engram.domain.dedup_thresholds import mark
from engram.domain.guard import RULE_VERSION
from engram.errors import UnavailableError
from engram.serving.process import Service
from engram.storage import dedup_runs, deduplicating
from engram.storage.connection import UNREACHABLE
from engram.storage.contention import until_won
from engram.storage.dedup_runs import Run
from engram.storage.deduplicating import Claim, Task
from engram_curator.dedup_batch import Batch
from engram_curator.dedup_calibration import calibrate_entered
from engram_curator.dedup_process import Comparer

log = structlog.get_logger(__name__)

ACTOR: Final = "curator"
RUN_LEASE: Final = timedelta(minutes=10)
TASK_LEASE: Final = timedelta(seconds=15)
_BEAT_S: Final = 4.0
_LOOK_S: Final = 1.0
_FAILURE_PAUSE_S: Final = 2.0
_TRIES: Final = 5
# Vectors claimed at a time: small namespaces share a statement and a start of the join.
_ABOUT_ROWS: Final = 20_000


async def begin_due(service: Service) -> None:
    """Begin a run in every workspace that has a namespace nobody has compared since it changed."""
    await service.spaces.refresh()
    await calibrate_entered(service, patience_s=0.0)
    for space in service.spaces.active:
        async with service.pool.acquire() as connection:
            marked = mark(space, await deduplicating.thresholds_of(connection, space))
            workspaces = await deduplicating.dirty_workspaces(connection, space, marked)
        for workspace in workspaces:
            await _begin(service, workspace)
    async with service.pool.acquire() as connection:
        await deduplicating.clear(connection)


async def _begin(service: Service, workspace: UUID) -> None:
    async def attempt() -> Run:
        async with service.pool.acquire() as connection, connection.transaction():
            run, _ = await dedup_runs.begin(
                connection, workspace, actor=ACTOR, options={}, rule_version=RULE_VERSION,
                merge_cap=None, lease=RUN_LEASE,
            )  # fmt: skip
            return run

    run = await until_won(attempt)
    log.info("dedup run begun", workspace=str(workspace), run=str(run.id))


async def work(service: Service, lease: timedelta = TASK_LEASE) -> None:
    """Work on runs until cancelled; any number of curators share one, namespace by namespace."""
    comparer, failures = Comparer(), Counter[UUID]()
    try:
        while True:
            if await _looked(service, comparer, lease, failures):
                continue
            await comparer.stop()
            await asyncio.sleep(_LOOK_S)
    finally:
        await comparer.kill()


async def _looked(
    service: Service, comparer: Comparer, lease: timedelta, failures: Counter[UUID]
) -> bool:
    """Do a batch if there is one; a run that fails again and again is ended."""
    try:
        return await work_once(service, comparer, lease)
    except (*UNREACHABLE, UnavailableError) as error:
        log.warning("dedup waits", error=type(error).__name__)
    except BatchFailedError as failure:
        cause = failure.__cause__ or failure
        log.error("dedup batch failed", run=str(failure.run.id), exc_info=cause)
        failures[failure.run.id] += 1
        if failures[failure.run.id] >= _TRIES:
            await _give_up(service, failure.run, type(cause).__name__)
    await comparer.kill()
    await asyncio.sleep(_FAILURE_PAUSE_S)
    return True


async def _give_up(service: Service, run: Run, error: str) -> None:
    said = {"code": "dedup_failed", "detail": f"A namespace could not be compared: {error}."}
    async with service.pool.acquire() as connection, connection.transaction():
        await dedup_runs.finish(connection, run.workspace, run.id, "failed", said)
    metrics.DEDUP_RUNS.labels("failed").inc()


class BatchFailedError(Exception):
    """A batch of a run failed; its cause says how. What was claimed is free again."""

    def __init__(self, run: Run) -> None:
        super().__init__(str(run.id))
        self.run = run


async def work_once(service: Service, comparer: Comparer, lease: timedelta = TASK_LEASE) -> bool:
    """Do one batch of namespaces of some run; False when there is nothing to do.

    Raises:
        BatchFailedError: a batch of some run failed.
    """
    async with service.pool.acquire() as connection:
        runs = await deduplicating.open_runs(connection)
    for workspace, run_id in runs:
        if await _Worker(service, comparer, workspace, run_id, lease).step():
            return True
    return False


@dataclass(slots=True)
class _Worker:
    """Works on one run."""

    service: Service
    comparer: Comparer
    workspace: UUID
    run_id: UUID
    lease: timedelta

    async def step(self) -> bool:
        """Plan the run, or do a batch of it, or end it; False when others do what is left."""
        run = await self._run()
        if run.state != "running":
            return False
        if await self._plan(run):
            return True
        who = Claim(self.workspace, self.run_id, uuid4())
        async with self.service.pool.acquire() as connection:
            tasks = await deduplicating.claim(connection, who, self.lease, _ABOUT_ROWS)
        if tasks:
            await self._do(run, who, tasks)
            return True
        return await self._end()

    async def _run(self) -> Run:
        async with self.service.pool.acquire() as connection:
            return await dedup_runs.show(connection, self.workspace, self.run_id)

    async def _plan(self, run: Run) -> bool:
        """Write down what is to be compared, each namespace in the space that it reads now."""
        async with self.service.pool.acquire() as connection:
            if await deduplicating.is_planned(connection, self.workspace, self.run_id):
                return False
        await calibrate_entered(self.service)
        return await until_won(lambda: self._planned(run))

    async def _planned(self, run: Run) -> bool:
        # A space may have come or gone since it was last looked for.
        await self.service.spaces.refresh()
        async with self.service.pool.acquire() as connection, connection.transaction():
            marks = {
                space: mark(space, await deduplicating.thresholds_of(connection, space))
                for space in self.service.spaces.active
            }
            planned = await deduplicating.plan(
                connection, self.workspace, self.run_id, marks, run.options.get("namespace"),
                full=bool(run.options.get("full")),
            )  # fmt: skip
            if planned is None:
                return False
            counts = dict(zip(("namespaces", "memories"), planned, strict=True))
            return await dedup_runs.progress(connection, run, counts, RUN_LEASE)

    async def _do(self, run: Run, who: Claim, tasks: list[Task]) -> None:
        """Do a batch and keep its claim meanwhile; leave it at once when the run has ended."""
        batch = Batch(self.service, self.comparer, run, who)
        doing = asyncio.create_task(batch.run(tasks))
        try:
            while not (await asyncio.wait({doing}, timeout=_beat_s(self.lease)))[0]:
                if not await self._kept(run, who):
                    log.info("dedup batch left", run=str(run.id))
                    return
            await _finished(doing, run)
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)
                await self.comparer.kill()
            async with self.service.pool.acquire() as connection:
                await deduplicating.release(connection, who)

    async def _kept(self, run: Run, who: Claim) -> bool:
        async with self.service.pool.acquire() as connection:
            runs_on = await dedup_runs.progress(connection, run, {}, RUN_LEASE)
            return runs_on and await deduplicating.extend(connection, who, self.lease)

    async def _end(self) -> bool:
        """End the run when all its namespaces are done."""
        async with self.service.pool.acquire() as connection, connection.transaction():
            if await deduplicating.left(connection, self.workspace, self.run_id):
                return False
            held = await deduplicating.held(connection, self.workspace, self.run_id)
            state: Any = "capped" if held else "done"
            run = await dedup_runs.finish(
                connection, self.workspace, self.run_id, state, _error(held)
            )
        metrics.DEDUP_RUNS.labels(run.state).inc()
        log.info("dedup run ended", run=str(run.id), state=run.state, merged=run.merged)
        return True


async def _finished(doing: asyncio.Task[None], run: Run) -> None:
    try:
        await doing
    except UNREACHABLE:
        raise
    except Exception as error:
        raise BatchFailedError(run) from error


def _beat_s(lease: timedelta) -> float:
    return min(_BEAT_S, lease.total_seconds() / 4)


def _error(held: int) -> dict[str, str] | None:
    if not held:
        return None
    return {
        "code": "dedup_capped",
        "detail": f"{held} namespaces would lose more of their memories than max_share allows.",
    }
