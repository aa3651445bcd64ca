"""``AsyncDualWriter``: the same for a client whose calls are awaited."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Self

from engram.dualwrite import flows
from engram.dualwrite.answers import Told
from engram.dualwrite.calls import Write, write_of
from engram.dualwrite.core import Operation
from engram.dualwrite.phases import mirrors
from engram.dualwrite.writer import DualWriter


class AsyncDualWriter(DualWriter):
    """Wraps an asynchronous client, such as ``AsyncMemory`` or ``AsyncMemoryClient``.

    Its calls are awaited and it is used with ``async with``; the rest is as for `DualWriter`. It
    belongs to the loop in which it is first used, since its client does.
    """

    async def __aenter__(self) -> Self:
        self._core.mirror.belongs_to(asyncio.get_running_loop())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Mirror what waits, for at most ``timeout_s``; the rest stays in the journal."""
        await self.adrain(timeout_s)
        await asyncio.to_thread(self.close, 0.0)

    async def adrain(self, timeout_s: float = 30.0) -> bool:
        """Wait until every write so far is on engram's stream; say whether it is."""
        return await asyncio.to_thread(self._core.drain, timeout_s)

    async def _read(self, method: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        phase = self.phase
        if self._new.answers(phase, method):
            return await self._answer(method, positional, named, may_fall_back=phase != "new-only")
        started_s = time.monotonic()
        answer = await self._awaited(method, positional, named)
        if phase == "shadow-read" and method == "search":
            self._new.compare(positional, named, answer, time.monotonic() - started_s)
        return answer

    async def _answer(
        self,
        method: str,
        positional: tuple[Any, ...],
        named: dict[str, Any],
        *,
        may_fall_back: bool,
    ) -> Any:
        asked = asyncio.to_thread(self._new.call, method, positional, named)
        if not may_fall_back:
            return await asked
        try:
            return await asyncio.wait_for(asked, self._core.options.read_timeout_s)
        except Exception:  # noqa: BLE001 - whatever it is, the old store can answer
            self._core.ledger.count("fallbacks")
            return await self._awaited(method, positional, named)

    async def _write(self, method: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self._core.mirror.belongs_to(asyncio.get_running_loop())
        phase = self.phase
        if phase == "new-only":
            return await asyncio.to_thread(self._new.write, method, positional, named)
        begun = await self._abegin(method, positional, named, recorded=mirrors(phase))
        try:
            answer = await self._awaited(method, positional, named)
        except BaseException:
            await self._aend(begun, lambda _: Told(), failed=True)
            raise
        await self._aend(begun, lambda write: write.told(self._store, answer))
        return answer

    async def _awaited(
        self, method: str, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        answer = self._old(method, positional, named)
        return await answer if inspect.isawaitable(answer) else answer

    async def _abegin(
        self, method: str, positional: tuple[Any, ...], named: dict[str, Any], *, recorded: bool
    ) -> tuple[Write, Operation] | None:
        ids: tuple[str, ...] | None = None
        try:
            if method == "delete_all" and recorded:
                ids = await self._listed(method, positional, named)
            write = self._described(method, positional, named, ids)
            operation = self._core.begin(write.ids, write.scope, recorded=recorded)
            if operation.entry is not None:
                await self._wait_for(operation.entry.written)
        except Exception as error:  # noqa: BLE001 - nothing of ours may fail the old store's call
            self._spoilt(error)
            return None
        return write, operation

    async def _aend(
        self,
        begun: tuple[Write, Operation] | None,
        tell: Callable[[Write], Told],
        *,
        failed: bool = False,
    ) -> None:
        try:
            entry = self._ended(begun, tell, failed=failed)
            if entry is not None:
                await self._wait_for(entry.synced)
        except Exception as error:  # noqa: BLE001 - see above
            self._spoilt(error)

    async def _listed(
        self, method: str, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[str, ...]:
        write = self._described(method, positional, named, None)
        rows = await flows.run_async(self._store.rows(write.scope))
        return tuple(self._store.id_of(row) for row in rows)

    async def _wait_for(self, future: Future[None]) -> None:
        waiting = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({waiting}, timeout=self._core.options.max_path_s / 2)
        if not done:
            self._core.ledger.count("late")

    def _described(
        self,
        method: str,
        positional: tuple[Any, ...],
        named: dict[str, Any],
        ids: tuple[str, ...] | None,
    ) -> Write:
        write = write_of(method, positional, named)
        return write if ids is None else replace(write, ids=ids)
