"""One batch of namespaces of a run: what is compared goes out, merges come back and are done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from engram import metrics
from engram.domain.dedup_decision import Thresholds
from engram.domain.dedup_thresholds import mark
from engram.serving.process import Service
from engram.storage import dedup_runs, deduplicating, findings, merging
from engram.storage.connection import Connection
from engram.storage.contention import until_won
from engram.storage.dedup_runs import Run
from engram.storage.deduplicating import Claim, Task
from engram.storage.findings import Finding
from engram.storage.merging import Applied, Group, Member
from engram_curator.dedup_process import Comparer
from engram_curator.dedup_reading import Reader

log = structlog.get_logger(__name__)

Json = dict[str, Any]
DEFAULT_SHARE: Final = 0.5
# A share of very few says nothing: so many memories of a namespace may always be merged.
_ALWAYS: Final = 10
# Memories locked at a time.
_LOCKED: Final = 300
_PREVIEWED: Final = 1_000
_SETTLED_PAGE: Final = 2_000
_SETTLE_WAIT_S: Final = 5.0
_LEASE: Final = timedelta(minutes=10)


@dataclass(slots=True)
class Batch:
    """Namespaces of one space that were claimed together."""

    service: Service
    comparer: Comparer
    run_of: Run
    who: Claim

    async def run(self, tasks: Sequence[Task]) -> None:
        """Compare what was not compared yet, and carry out what was decided.

        Raises:
            ComparisonFailedError: the comparing process died or failed.
        """
        settled = await self._seqs_are_settled()
        async with self.service.pool.acquire() as connection:
            thresholds = await deduplicating.thresholds_of(connection, tasks[0].space)
        there = await self._where_read(tasks)
        fresh = [task for task in tasks if task.merges is None and task.namespace in there]
        plans = await self._all_compared(fresh, thresholds) if fresh else {}
        for task in tasks:
            plan = plans.get(task.namespace)
            merges = task.merges if task.merges is not None else plan["merges"] if plan else []
            marked = mark(task.space, thresholds) if settled else None
            try:
                if task.namespace not in there:
                    goes_on = await self._moved(task, {})
                else:
                    goes_on = await self._carry_out(task, plan, merges, marked)
                if not goes_on:
                    return
            except _TakenError:
                log.info("dedup namespace taken by another", run=str(self.run_of.id))

    async def _where_read(self, tasks: Sequence[Task]) -> set[str]:
        """Return the namespaces that still read the space for which they were planned."""
        names, space = [task.namespace for task in tasks], tasks[0].space
        async with self.service.pool.acquire() as connection:
            there = await deduplicating.reading(connection, self.who.workspace, names, space)
        if there and space not in self.service.spaces.dimensions:
            await self.service.spaces.refresh()
        return there

    async def _moved(self, task: Task, counts: Json) -> bool:
        """Close a namespace that reads another space by now: it is dirty there, and waits."""
        log.info("dedup namespace moved", run=str(self.run_of.id), space=task.space)
        return await self._close(task, {**counts, "namespaces_moved": 1}, None)

    async def _seqs_are_settled(self) -> bool:
        """Wait a little for writers from before the plan; without it all is compared again."""
        deadline = asyncio.get_running_loop().time() + _SETTLE_WAIT_S
        while True:
            async with self.service.pool.acquire() as connection:
                if await deduplicating.seqs_are_settled(connection, self.who):
                    return True
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.05)

    async def _all_compared(self, tasks: Sequence[Task], thresholds: Thresholds) -> dict[str, Json]:
        """Return the plan of each namespace that has vectors."""
        reader = Reader(self.service, self.comparer, self.who.workspace)
        plans: dict[str, Json] = {}
        for part in await reader.parts(tasks):
            wanted = await reader.near(part, thresholds)
            plans |= await self._compared([task.namespace for task in part.tasks], wanted)
        return plans

    async def _compared(self, names: Sequence[str], wanted: Sequence[UUID]) -> dict[str, Json]:
        """Give the comparing process the texts that it wants, and return its plans."""
        workspace = self.who.workspace
        async with self.service.pool.acquire() as connection:
            async for page in deduplicating.texts(connection, workspace, wanted):
                await self.comparer.send({"op": "texts", "texts": page})
            doubtful = (await self.comparer.ask({"op": "compare"}))["doubtful"]
            settled = await self._settled(connection, doubtful)
        answer = await self.comparer.ask({"op": "plan", "settled": settled})
        return {names[plan["place"] - 1]: plan for plan in answer["plans"]}

    async def _settled(
        self, connection: Connection, doubtful: Sequence[Sequence[Any]]
    ) -> list[list[str]]:
        pairs = [((UUID(a), av), (UUID(b), bv)) for a, av, b, bv in doubtful]
        found: list[list[str]] = []
        for start in range(0, len(pairs), _SETTLED_PAGE):
            some = await findings.settled(
                connection, self.who.workspace, pairs[start : start + _SETTLED_PAGE]
            )
            found += [[low.hex, high.hex] for low, high in some]
        return found

    async def _carry_out(
        self, task: Task, plan: Json | None, merges: list[Json], marked: str | None
    ) -> bool:
        """Do what was decided about one namespace; False when the run has ended."""
        counts = dict(plan["counts"]) if plan else {}
        if plan and self._is_too_much(merges, plan["memories"]):
            log.warning("dedup namespace held", run=str(self.run_of.id), merges=len(merges))
            metrics.DEDUP_CAPPED.inc()
            # Nothing of it is touched, and it stays dirty: somebody has to look.
            return await self._close(task, {**counts, "namespaces_held": 1}, None)
        if self.run_of.options.get("dry_run"):
            return await self._preview(task, plan, merges, counts)
        if plan:
            found = await self._record(task, plan, merges)
            if found is None:
                return await self._moved(task, counts)
            counts |= found
        return await self._merged(task, merges, counts, marked)

    async def _merged(
        self, task: Task, merges: list[Json], counts: Json, marked: str | None
    ) -> bool:
        """Merge some groups at a time, and close the namespace; False when the run has ended."""
        for start, end in _slices(merges):
            outcomes = await self._apply(task, merges[start:end])
            left = {one.left for one in outcomes}
            for one in outcomes:
                if one.left:
                    counts[f"left_{one.left}"] = counts.get(f"left_{one.left}", 0) + 1
            if left & {"capped", "stopped"}:
                await self._stopped(outcomes)
                return False
            if "moved" in left:
                return await self._moved(task, counts)
            if left != {None}:
                # What else was to merge with something that has changed is looked at once more.
                marked = None
        return await self._close(task, counts, marked)

    def _is_too_much(self, merges: Sequence[Json], memories: int) -> bool:
        share = self.run_of.options.get("max_share") or DEFAULT_SHARE
        return _absorbed(merges) > max(_ALWAYS if share >= DEFAULT_SHARE else 0, share * memories)

    async def _preview(
        self, task: Task, plan: Json | None, merges: list[Json], counts: Json
    ) -> bool:
        counts["would_merge"] = _absorbed(merges)
        if plan:
            counts["would_propose"] = len(plan["proposals"])
            counts["would_conflict"] = len(plan["conflicts"])
        async with self.service.pool.acquire() as connection:
            await deduplicating.keep_preview(
                connection, self.who, task.namespace, merges[:_PREVIEWED]
            )
        return await self._close(task, counts, None)

    async def _record(self, task: Task, plan: Json, merges: list[Json]) -> Json | None:
        """Keep proposals, conflicts and what is to merge, in one transaction.

        Returns:
            How many are new; None when the namespace reads another space by now.
        """
        cause, where = self.run_of.cause(), (self.who.workspace, [task.namespace], task.space)

        async def attempt() -> Json | None:
            now = datetime.now(UTC)
            async with self.service.pool.acquire() as connection, connection.transaction():
                if not await deduplicating.reading(connection, *where):
                    return None
                proposed = [_finding(one) for one in plan["proposals"]]
                contrary = [_finding(one) for one in plan["conflicts"]]
                found = {
                    "proposals": await findings.record(
                        connection, "proposal", cause, proposed, now
                    ),
                    "conflicts": await findings.record(
                        connection, "conflict", cause, contrary, now
                    ),
                }
                await deduplicating.keep_merges(connection, self.who, task.namespace, merges)
            return found

        return await until_won(attempt)

    async def _apply(self, task: Task, merges: Sequence[Json]) -> list[Applied]:
        groups = [_group(merge) for merge in merges]
        cause = self.run_of.cause(space=task.space)

        async def attempt() -> list[Applied]:
            async with self.service.pool.acquire() as connection, connection.transaction():
                return await merging.apply_groups(connection, cause, groups, datetime.now(UTC))

        outcomes = await until_won(attempt)
        self.service.relay.wake()
        absorbed = sum(len(one.group.members) for one in outcomes if one.merge_id)
        metrics.DEDUP_MERGED.inc(absorbed)
        return outcomes

    async def _stopped(self, outcomes: Sequence[Applied]) -> None:
        if any(one.left == "capped" for one in outcomes):
            metrics.DEDUP_CAPPED.inc()
            metrics.DEDUP_RUNS.labels("capped").inc()
            log.warning("dedup run capped", run=str(self.run_of.id))

    async def _close(self, task: Task, counts: Mapping[str, Any], marked: str | None) -> bool:
        """Close a namespace with its counts; False when the run has ended meanwhile."""
        for decision in ("merge", "propose", "conflict", "distinct"):
            metrics.DEDUP_PAIRS.labels(decision).inc(counts.get(decision, 0))
        said = {**counts, "namespaces_done": 1, "memories_done": task.rows}
        async with self.service.pool.acquire() as connection, connection.transaction():
            if not await dedup_runs.progress(connection, self.run_of, said, _LEASE):
                return False
            if not await deduplicating.task_done(connection, self.who, task.namespace):
                # Somebody else has it, and counts it.
                raise _TakenError
            if marked is not None and not self.run_of.options.get("dry_run"):
                await deduplicating.advance(
                    connection, self.who.workspace, task.namespace, task.newest_seq, marked
                )
        return True


class _TakenError(Exception):
    """The claim was lost: another curator does this namespace."""


def _absorbed(merges: Sequence[Json]) -> int:
    return sum(len(merge["members"]) for merge in merges)


def _slices(merges: Sequence[Json]) -> list[tuple[int, int]]:
    """Cut merges so that each part locks a few hundred memories, or is one large group."""
    found, start, size = [], 0, 0
    for at, merge in enumerate(merges):
        members = len(merge["members"]) + 1
        if size and size + members > _LOCKED:
            found.append((start, at))
            start, size = at, 0
        size += members
    return [*found, (start, len(merges))] if merges else []


def _finding(one: Json) -> Finding:
    (a, a_version), (b, b_version) = one["one"], one["other"]
    survivor = one["survivor"]
    return Finding(
        (UUID(a), a_version),
        (UUID(b), b_version),
        one["cosine"],
        one["reason"],
        one["guard"],
        UUID(survivor) if survivor else None,
    )


def _group(merge: Json) -> Group:
    members = tuple(
        Member(UUID(one["id"]), one["version"], one["cosine"], one["guard"])
        for one in merge["members"]
    )
    return Group(UUID(merge["survivor"]), merge["version"], members)
