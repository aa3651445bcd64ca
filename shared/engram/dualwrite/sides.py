"""The new side of a writer: engram's answers, with the old store to fall back on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from engram.backoff import Backoff
from engram.client import Client
from engram.dualwrite.core import Core
from engram.dualwrite.phases import Phase
from engram.dualwrite.reading import EngramReads
from engram.dualwrite.shadow import Shadow

_WORKERS: Final = 16


class NewSide:
    """Reads from engram, writes to it in the phase new-only, and compares in the shadow.

    Args:
        core: of the writer.
        client: of engram; None: made from the environment when it is first needed.
    """

    def __init__(self, core: Core, client: Client | None) -> None:
        self._core = core
        self._client = client
        self._owned: Client | None = None
        self._lock = threading.Lock()
        self._reads: EngramReads | None = None
        self._shadow: Shadow | None = None
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="engram-reads")

    def answers(self, phase: Phase, method: str) -> bool:
        """Say whether engram answers this read in this phase."""
        # One memory by its id is read where it is written, as long as the old store is.
        return phase == "new-only" or (phase == "new-reads" and method != "get")

    def read(
        self,
        phase: Phase,
        method: str,
        positional: Sequence[Any],
        named: Mapping[str, Any],
        old: Callable[[], Any],
    ) -> Any:
        """Read from engram; in new-reads the old store answers when engram does not in time."""
        if phase == "new-only":
            return self.call(method, positional, named)
        asked = self._workers.submit(self.call, method, positional, named)
        try:
            return asked.result(self._core.options.read_timeout_s)
        except Exception:  # noqa: BLE001 - whatever it is, the old store can answer
            self._core.ledger.count("fallbacks")
            return old()

    def write(self, method: str, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Write to engram alone; counted, because the old store does not hear of it."""
        answer = self.call(method, positional, named)
        self._core.ledger.count("only_in_engram")
        return answer

    def call(self, method: str, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Call engram as if it were mem0."""
        return getattr(self._engram(), method)(*positional, **named)

    def compare(
        self,
        positional: Sequence[Any],
        named: Mapping[str, Any],
        answer: Any,
        primary_s: float,
    ) -> None:
        """Ask engram what the old store was asked, in the background; never raises."""
        try:
            query = positional[0] if positional else named["query"]
            rest = {name: value for name, value in named.items() if name != "query"}
            self._shadowing().compare(query, rest, answer, primary_s)
        except Exception:  # noqa: BLE001 - a read of the old store is not failed by its shadow
            self._core.ledger.count("shadow_skipped")

    def close(self) -> None:
        """End the threads, and the client if it was made here."""
        if self._shadow is not None:
            self._shadow.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        if self._owned is not None:
            self._owned.close()

    def _engram(self) -> EngramReads:
        with self._lock:
            if self._reads is None:
                options = self._core.options
                if self._client is None:
                    self._client = self._owned = Client(
                        timeout_s=options.read_timeout_s, backoff=Backoff(attempts=2)
                    )
                self._reads = EngramReads(
                    self._client, self._core.store.source, bare_lists=options.bare_lists
                )
            return self._reads

    def _shadowing(self) -> Shadow:
        reads = self._engram()
        with self._lock:
            if self._shadow is None:
                self._shadow = Shadow(reads, self._core.ledger, self._core.options.shadow_sample)
            return self._shadow
