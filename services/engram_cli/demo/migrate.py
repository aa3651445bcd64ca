"""``engram demo --migrate``: a change of model under writes and reads, told as a timeline."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engram.errors import EngramError, UnavailableError
from engram_cli import output
from engram_cli.demo.play import Play

if TYPE_CHECKING:
    from engram.client import AsyncClient
    from engram_cli.import_run import Progress

FROM: Final = "hashing@256"
TO: Final = "minilm"
# In other words than any memory has: a lexical space finds it hard, the local model does not.
QUERY: Final = "can Carol eat the sandwiches"
_ROUTE: Final = "/v1/migrations"
_LOOK_S: Final = 0.1
_LOAD_S: Final = 0.1
_PATIENCE_S: Final = 300.0
_OPEN: Final = ("waiting", "backfilling")


@dataclass(slots=True)
class _Load:
    """What was written and read meanwhile; ``reads`` by the space that answered."""

    written: int = 0
    reads: Counter[str] = field(default_factory=Counter)
    failed: int = 0


class Journey:
    """One run of the demo against a running engram.

    Args:
        client: talks to it.
        show: told about the progress of an import.
    """

    def __init__(self, client: AsyncClient, show: Callable[[Progress], None]) -> None:
        self._client = client
        self._show = show
        self._load = _Load()
        self._began_s = time.perf_counter()
        self._events: list[dict[str, Any]] = []
        self._id = ""

    async def run(self) -> dict[str, Any]:
        """Fill a store, move it to another model and back and forth, and return the timeline."""
        await Play(self._client, self._show).import_all()
        before = await self._best()
        output.line(f"\nFrom {FROM} to {TO}, while others write and read:", "bold")
        async with self._under_load():
            await self._move()
        after = await self._best()
        self._summary(before, after)
        return {
            "timeline": self._events,
            "reads": dict(self._load.reads),
            "failed": self._load.failed,
            "written": self._load.written,
            "best": {"query": QUERY, "before": before, "after": after},
        }

    async def _move(self) -> None:
        made = await self._client.request("POST", _ROUTE, body={"to": TO, "measure": False})
        self._id, plan = made["id"], made["plan"]
        for blocker in plan["blockers"]:
            raise UnavailableError("demo_blocked", blocker["detail"], cure=blocker["cure"])
        self._note(
            "planned",
            f"{plan['rows']:,} memories, {plan['tokens']:,} tokens, {plan['disk_bytes']:,} bytes",
        )
        await self._ask("start", "dual-write on: every write reaches both spaces")
        await self._filled()
        found = await self._ask("verify", "")
        verdict = found["verdict"] or {}
        self._note("verified", f"the same memories in both; overlap@10 {verdict.get('overlap')}")
        await self._ask("cutover", "every namespace reads the new space")
        await self._ask("rollback", "everything reads the old space again, nothing was lost")
        await self._ask("cutover", "every namespace reads the new space")
        await self._ask("release", "the old space is dropped")

    async def _ask(self, verb: str, told: str) -> dict[str, Any]:
        await self._client.request("POST", f"{_ROUTE}/{self._id}/{verb}")
        found = await self._until(lambda found: found["wish"] is None)
        if found["error"]:
            raise UnavailableError(
                "demo_blocked", found["error"]["detail"], cure=found["error"]["cure"]
            )
        if told:
            self._note(verb, told)
        return found

    async def _filled(self) -> None:
        told = -1

        def done(found: dict[str, Any]) -> bool:
            nonlocal told
            rows, missing = found["progress"].get("rows"), found["progress"].get("missing")
            if rows and missing is not None and rows - missing != told:
                told = rows - missing
                self._note("backfill", f"{told:,} of {rows:,} memories are in the new space")
            states = found["namespaces"]
            return bool(states) and not any(states.get(state) for state in _OPEN)

        await self._until(done)

    async def _until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = await self._client.request("GET", f"{_ROUTE}/{self._id}")
            if done(found):
                return found
            await asyncio.sleep(_LOOK_S)
        raise UnavailableError("demo_blocked", "The migration did not get there in time.")

    def _note(self, event: str, told: str) -> None:
        at_s = round(time.perf_counter() - self._began_s, 1)
        reads = dict(self._load.reads)
        entry = {"seconds": at_s, "event": event, "told": told, "reads": reads}
        self._events.append({**entry, "written": self._load.written, "failed": self._load.failed})
        output.line(f"{at_s:7.1f} s  {event:<10} {told}")

    async def _best(self) -> str:
        answer = await self._client.search(QUERY, limit=1)
        return answer["results"][0]["memory"]["content"] if answer["results"] else ""

    @contextlib.asynccontextmanager
    async def _under_load(self) -> AsyncIterator[None]:
        """Write and search all the time while inside, and count what came of it."""
        going = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await going

    async def _go_on(self) -> None:
        load = self._load
        while True:
            load.written += 1
            try:
                await self._client.add(f"Guest number {load.written} has arrived.", user_id="door")
                answer = await self._client.search(QUERY, limit=3)
                load.reads[answer["space"] or "unknown"] += 1
            except EngramError:
                load.failed += 1
            await asyncio.sleep(_LOAD_S)

    def _summary(self, before: str, after: str) -> None:
        load = self._load
        told = ", ".join(f"{count:,} from {space}" for space, count in load.reads.items())
        output.line(
            f"\nMeanwhile {load.written:,} memories were written; searches: {told}.", "green"
        )
        output.line(f"Failed requests: {load.failed}.", "red" if load.failed else "green")
        output.line(f'\n"{QUERY}"', "bold")
        output.table(("space", "best answer"), [(FROM, before), (TO, after)], empty="nothing found")
