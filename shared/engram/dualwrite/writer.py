"""``DualWriter``: a client of the old store that mirrors its writes to engram."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeoutError
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engram.dualwrite import flows
from engram.dualwrite.answers import Told
from engram.dualwrite.calls import UNMIRRORED, Write, write_of
from engram.dualwrite.core import Core, Operation, Options
from engram.dualwrite.phases import Phase, mirrors
from engram.dualwrite.recorder import Entry
from engram.dualwrite.sides import NewSide
from engram.dualwrite.stats import Stats
from engram.dualwrite.stores import OldStore
from engram.dualwrite.stores.mem0 import Mem0Store

_log = logging.getLogger("engram.dualwrite")


class DualWriter:
    """Wraps a blocking client: its calls go on as before, and engram follows.

    Every call of the client goes through, with its own arguments and its own answer. Writes are
    noted in a journal on disk before and after the old store does them; a thread reads what the
    old store holds then and publishes it. Nothing that engram does, or does not do, fails a call;
    a write waits for the journal at most ``max_path_s``.

    Args:
        client: of mem0, or an `OldStore` for another store.
        workspace: of engram.
        journal: directory of this process's own, on a local disk.
        nats_url: default ``ENGRAM_NATS_URL``.
        engram: an `engram.client.Client` for shadow reads and the phases after; default: made
            from ``ENGRAM_URL`` and ``ENGRAM_API_KEY`` when a phase first needs it.
        options: see `Options`; its fields may also be given by name.

    Raises:
        UsageError: the journal is in use by another process, or an option is wrong.
    """

    def __init__(
        self,
        client: Any,
        *,
        workspace: str,
        journal: str | Path,
        nats_url: str | None = None,
        engram: Any = None,
        options: Options | None = None,
        **changed: Any,
    ) -> None:
        chosen = replace(options or Options(), **changed)
        self._store: OldStore = client if hasattr(client, "told") else Mem0Store(client)
        self._core = Core(self._store, nats_url, workspace, Path(journal), chosen)
        self._new = NewSide(self._core, engram)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def phase(self) -> Phase:
        """The phase now."""
        return self._core.phase.get()

    def set_phase(self, phase: str) -> None:
        """Go to another phase, forward or back; it holds for every call that ends from now on.

        Raises:
            UsageError: there is no such phase.
        """
        self._core.phase.set(phase)

    def stats(self) -> Stats:
        """Return what was mirrored, what waits, and where the stores differ."""
        return self._core.stats()

    def drain(self, timeout_s: float = 30.0) -> bool:
        """Wait until every write so far is on engram's stream; say whether it is."""
        return self._core.drain(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Mirror what waits, for at most ``timeout_s``; the rest stays in the journal."""
        self._core.drain(timeout_s)
        self._core.close()
        self._new.close()

    def add(self, *positional: Any, **named: Any) -> Any:
        """Store, and mirror what the old store made of it."""
        return self._write("add", positional, named)

    def update(self, *positional: Any, **named: Any) -> Any:
        """Change a memory, and mirror it."""
        return self._write("update", positional, named)

    def delete(self, *positional: Any, **named: Any) -> Any:
        """Delete a memory, and mirror that."""
        return self._write("delete", positional, named)

    def batch_update(self, *positional: Any, **named: Any) -> Any:
        """Change memories, and mirror them."""
        return self._write("batch_update", positional, named)

    def batch_delete(self, *positional: Any, **named: Any) -> Any:
        """Delete memories, and mirror that."""
        return self._write("batch_delete", positional, named)

    def delete_all(self, *positional: Any, **named: Any) -> Any:
        """Delete an owner's memories; they are listed first, so that it is known which."""
        return self._write("delete_all", positional, named)

    def get(self, *positional: Any, **named: Any) -> Any:
        """Read one memory: from the old store until the phase is new-only."""
        return self._read("get", positional, named)

    def get_all(self, *positional: Any, **named: Any) -> Any:
        """List memories, from engram from the phase new-reads on."""
        return self._read("get_all", positional, named)

    def search(self, *positional: Any, **named: Any) -> Any:
        """Search: the old store, and engram from the phase new-reads on."""
        return self._read("search", positional, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in UNMIRRORED:
            self._core.ledger.diverge("unresolved", name, "this call is not mirrored")
        return getattr(self._store.client, name)

    def _read(self, method: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        phase = self.phase
        if self._new.answers(phase, method):
            return self._new.read(
                phase, method, positional, named, lambda: self._old(method, positional, named)
            )
        started_s = time.monotonic()
        answer = self._old(method, positional, named)
        if phase == "shadow-read" and method == "search":
            self._new.compare(positional, named, answer, time.monotonic() - started_s)
        return answer

    def _write(self, method: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        phase = self.phase
        if phase == "new-only":
            return self._new.write(method, positional, named)
        operation = self._begin(method, positional, named, recorded=mirrors(phase))
        try:
            answer = self._old(method, positional, named)
        except BaseException:
            self._end(operation, lambda _: Told(), failed=True)
            raise
        self._end(operation, lambda write: write.told(self._store, answer))
        return answer

    def _old(self, method: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return getattr(self._store.client, method)(*positional, **named)

    def _begin(
        self, method: str, positional: tuple[Any, ...], named: dict[str, Any], *, recorded: bool
    ) -> tuple[Write, Operation] | None:
        try:
            write = write_of(method, positional, named)
            if method == "delete_all" and recorded:
                rows = flows.run(self._store.rows(write.scope))
                write = replace(write, ids=tuple(self._store.id_of(row) for row in rows))
            operation = self._core.begin(write.ids, write.scope, recorded=recorded)
            if operation.entry is not None:
                self._wait(operation.entry.written)
        except Exception as error:  # noqa: BLE001 - nothing of ours may fail the old store's call
            self._spoilt(error)
            return None
        return write, operation

    def _end(
        self,
        begun: tuple[Write, Operation] | None,
        tell: Callable[[Write], Told],
        *,
        failed: bool = False,
    ) -> None:
        try:
            entry = self._ended(begun, tell, failed=failed)
            if entry is not None:
                self._wait(entry.synced)
        except Exception as error:  # noqa: BLE001 - see above
            self._spoilt(error)

    def _ended(
        self,
        begun: tuple[Write, Operation] | None,
        tell: Callable[[Write], Told],
        *,
        failed: bool,
    ) -> Entry | None:
        if begun is None:
            return None
        write, operation = begun
        if not mirrors(self.phase):
            self._core.drop(operation)
            return None
        return self._core.end(operation, tell(write), failed=failed)

    def _wait(self, future: Future[None]) -> None:
        try:
            # Half for the beginning of a write, half for its end.
            future.result(self._core.options.max_path_s / 2)
        except WaitTimeoutError:
            self._core.ledger.count("late")

    def _spoilt(self, error: Exception) -> None:
        _log.error("a write is not mirrored: %s", type(error).__name__)
        self._core.ledger.diverge("unrecorded", "", type(error).__name__)
