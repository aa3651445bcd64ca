"""Shadow reads: engram is asked what the old store was asked, and the answers are compared."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from engram.dualwrite.answers import rows_of
from engram.dualwrite.reading import EngramReads
from engram.dualwrite.stats import Ledger

_WORKERS: Final = 2
_MOST_WAITING: Final = 64


def overlap(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> tuple[float, list[str]]:
    """Return the share of the old rows that the new ones have, and the ids of those missing.

    A row is there under its id, or with the same text: engram shows one of equal texts. Two empty
    answers agree: 1.0.
    """
    ids = {str(row.get("id")) for row in new}
    texts = {_text(row) for row in new}
    missing = [
        str(row.get("id"))
        for row in old
        if str(row.get("id")) not in ids and _text(row) not in texts
    ]
    return (1.0 if not old else 1 - len(missing) / len(old)), missing


class Shadow:
    """Compares in the background; what does not fit into its queue is skipped, not waited for.

    Args:
        reads: engram.
        ledger: counts.
        sample: share of the searches that are compared, 0 to 1.
    """

    def __init__(self, reads: EngramReads, ledger: Ledger, sample: float) -> None:
        self._reads, self._ledger, self._sample = reads, ledger, sample
        self._random = random.Random()  # noqa: S311 - which searches are compared is no secret
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="engram-shadow")
        self._room = threading.Semaphore(_MOST_WAITING)

    def compare(
        self, query: str, arguments: Mapping[str, Any], answer: Any, primary_s: float
    ) -> None:
        """Ask engram the same, later, and count how its answer compares."""
        if self._random.random() >= self._sample:
            return
        old = rows_of(answer)
        if not self._room.acquire(blocking=False):
            self._ledger.count("shadow_skipped")
            return
        self._workers.submit(self._compare, query, dict(arguments), old, primary_s)

    def close(self) -> None:
        """End without waiting: nobody needs a comparison that is still under way."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _compare(
        self, query: str, arguments: dict[str, Any], old: list[dict[str, Any]], primary_s: float
    ) -> None:
        started_s = time.monotonic()
        try:
            new = rows_of(self._reads.search(query, **arguments))
        except Exception:  # noqa: BLE001 - engram may be away: that is what is being found out
            self._ledger.count("shadow_skipped")
            return
        finally:
            self._room.release()
        share, missing = overlap(old, new)
        self._ledger.shadow(share, len(missing), primary_s, time.monotonic() - started_s)
        for name in missing:
            self._ledger.diverge("shadow", name, "engram did not find it among its first")


def _text(row: Mapping[str, Any]) -> str:
    return " ".join(str(row.get("memory") or row.get("fact") or row.get("content") or "").split())
