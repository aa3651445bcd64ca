"""How the vectors of a batch get to the process that compares: all, or what is near new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from engram.domain.dedup_decision import Thresholds
from engram.domain.dedup_thresholds import joined_from
from engram.domain.pairs.choice import choose, reach
from engram.serving.process import Service
from engram.storage import dedup_vectors
from engram.storage.dedup_vectors import ScopeSize, Where
from engram.storage.deduplicating import Task
from engram_curator.dedup_process import Comparer

log = structlog.get_logger(__name__)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Namespaces of a batch whose vectors are read in one way.

    Attributes:
        fresh: how many of their vectors were not compared yet.
        asked: the database looks for what is near; else all vectors are read.
    """

    tasks: list[Task]
    fresh: int
    asked: bool


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads for one batch, of one workspace and space."""

    service: Service
    comparer: Comparer
    workspace: UUID

    async def parts(self, tasks: Sequence[Task]) -> list[Part]:
        """Divide namespaces by the way that is cheaper for each."""
        async with self.service.pool.acquire() as connection:
            fresh = await dedup_vectors.fresh_counts(connection, self._where(tasks))
        found: dict[bool, Part] = {}
        for task, new in zip(tasks, fresh, strict=True):
            asked = choose(task.rows, min(new, task.rows)) == "knn"
            before = found.get(asked, Part([], 0, asked))
            found[asked] = Part([*before.tasks, task], before.fresh + new, asked)
        return list(found.values())

    async def near(self, part: Part, thresholds: Thresholds) -> list[UUID]:
        """Send the vectors, and return the memories that are near enough to be read.

        Raises:
            ComparisonFailedError: the comparing process died or failed.
        """
        if part.asked:
            await self._send_near(part, thresholds)
        else:
            await self._send_all(part, thresholds)
        await self.comparer.send_bytes(b"")
        return [UUID(one) for one in (await self.comparer.ask())["ids"]]

    async def _send_all(self, part: Part, thresholds: Thresholds) -> None:
        where, rows = self._where(part.tasks), sum(task.rows for task in part.tasks)
        await self.comparer.send(self._request(where, thresholds, rows, None))
        async with self.service.pool.acquire() as connection:
            await dedup_vectors.stream_vectors(
                connection, self.workspace, where.space, where.names, self.comparer.send_bytes
            )

    async def _send_near(self, part: Part, thresholds: Thresholds) -> None:
        where = self._where(part.tasks)
        # One snapshot: no scope may be among the vectors that was not among the sizes.
        async with (
            self.service.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            sizes = await dedup_vectors.scope_sizes(connection, where)
            reaches = self._reaches(where, sizes, thresholds)
            await self.comparer.send(self._request(where, thresholds, 2 * part.fresh, sizes))
            await dedup_vectors.stream_near(connection, where, reaches, self.comparer.send_bytes)
        log.debug("dedup asked the database", namespaces=len(part.tasks), fresh=part.fresh)

    def _reaches(
        self, where: Where, sizes: Sequence[ScopeSize], thresholds: Thresholds
    ) -> list[float]:
        """Return for each namespace how far its scopes look that have something new."""
        dimensions = self.service.spaces.dimensions[where.space]
        least = [1.0] * len(where.names)
        for size in sizes:
            if size.fresh:
                looked_from = joined_from(size.rows, thresholds)
                least[size.place - 1] = min(least[size.place - 1], looked_from)
        return [reach(one, dimensions) for one in least]

    def _where(self, tasks: Sequence[Task]) -> Where:
        names, compared = [task.namespace for task in tasks], [task.compared_seq for task in tasks]
        return Where(self.workspace, tasks[0].space, names, compared)

    def _request(
        self, where: Where, thresholds: Thresholds, rows: int, sizes: Sequence[ScopeSize] | None
    ) -> Json:
        said = None if sizes is None else [[one.place, one.owner.hex, one.rows] for one in sizes]
        return {
            "op": "near",
            "dimensions": self.service.spaces.dimensions[where.space],
            "rows": rows,
            "compared": list(where.compared),
            "thresholds": [thresholds.merge, thresholds.propose, thresholds.may_merge],
            "sizes": said,
        }
