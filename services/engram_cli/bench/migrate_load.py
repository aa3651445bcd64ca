"""What goes on while ``engram bench migrate`` runs: writes, and reads that are checked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from uuid_utils.compat import uuid7

from engram_cli.bench.migrate_planted import Planted

PER_S: Final = 20
_LIVE_USERS: Final = 20
# The vector of a query is that of the memory with the same text, but for the rounding to halves: a
# vector of another space would be nowhere near, or of another length.
_SAME: Final = 0.999


@dataclass(slots=True)
class Times:
    """Milliseconds of each request, from the moment it was due."""

    writes: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Seen:
    """What reads came to.

    Attributes:
        spaces: answers by the space that gave them.
        failed: status codes, and ``degraded``, of those that did not answer by vectors.
        wrong: answers whose best result is not the memory that was asked for, as near as can be.
    """

    spaces: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: int = 0


class Load:
    """Writes and reads at a fixed rate, whether or not the answers keep up.

    Args:
        http: an authorised client.
        planted: what is read.
    """

    def __init__(self, http: httpx.AsyncClient, planted: Planted) -> None:
        self._http = http
        self._planted = planted
        self._number = 0
        self.written = 0
        self.seen = Seen()

    async def for_s(self, seconds: float) -> Times:
        """Go on for some seconds and return how long each request took."""
        times = Times()
        await self._second(times, int(seconds * PER_S))
        return times

    async def beside(self, work: Awaitable[Any]) -> Times:
        """Go on until some work is done, a second at least."""
        times, task = Times(), asyncio.ensure_future(work)
        try:
            while not task.done():
                await self._second(times, PER_S)
        except BaseException:
            task.cancel()
            raise
        await task
        return times

    async def _second(self, times: Times, count: int) -> None:
        started, asked = time.perf_counter(), []
        for turn in range(count):
            due = started + turn / PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(self._write(due, times.writes)))
            asked.append(asyncio.create_task(self._read(due, times.reads)))
        await asyncio.gather(*asked)

    async def _write(self, due: float, times: list[float]) -> None:
        self.written += 1
        user = f"live-{self.written % _LIVE_USERS}"
        body = {"content": f"{uuid7()} prefers the train", "user_id": user}
        (await self._http.post("/v1/memories", json=body)).raise_for_status()
        times.append(1_000 * (time.perf_counter() - due))

    async def _read(self, due: float, times: list[float]) -> None:
        # A stride that has nothing in common with the size of a namespace.
        self._number += 7_919
        namespace, text = self._planted.at(self._number)
        body = {"query": text, "namespace": namespace, "limit": 10}
        answer = await self._http.post("/v1/memories/search", json=body)
        times.append(1_000 * (time.perf_counter() - due))
        self._note(answer, text)

    def _note(self, answer: httpx.Response, text: str) -> None:
        if answer.status_code != 200:
            self.seen.failed[str(answer.status_code)] += 1
            return
        found = answer.json()
        if found["degraded"]:
            self.seen.failed["degraded"] += 1
            return
        self.seen.spaces[found["space"]] += 1
        best = found["results"][:1]
        right = best and best[0]["memory"]["content"] == text and best[0]["score"] > _SAME
        self.seen.wrong += not right
