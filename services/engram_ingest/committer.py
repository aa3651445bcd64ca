"""The group commit loop: concurrent requests share one transaction and one sync of the disk."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from engram import metrics, tracing
from engram.errors import EngramError, UnavailableError
from engram.storage.connection import Pool
from engram.storage.idempotency import Answer
from engram.storage.writing import Write, write_batch
from engram_ingest.admission import Admission

MAX_BATCH = 1_000
# Two transactions at a time: one computes while the other waits for the disk.
_LOOPS = 2


@dataclass(slots=True)
class _Waiting:
    write: Write
    answer: "asyncio.Future[Answer]"
    traceparent: str = ""


class Committer:
    """Collects requests while the previous ones are being committed.

    Args:
        pool: of the API role.
        admission: told what enters and leaves.
        committed: called after each commit, to wake the relay.
    """

    def __init__(self, pool: Pool, admission: Admission, committed: Callable[[], None]) -> None:
        self._pool = pool
        self._admission = admission
        self._committed = committed
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()

    async def submit(self, write: Write) -> Answer:
        """Return the answer of a request once it is durable.

        Raises:
            EngramError: what the request was refused with.
        """
        weight = max(1, len(write.items))
        self._admission.enter(write.workspace, weight)
        try:
            waiting = _Waiting(write, asyncio.get_running_loop().create_future(), tracing.current())
            self._queue.append(waiting)
            self._arrived.set()
            return await waiting.answer
        finally:
            self._admission.leave(write.workspace, weight)

    async def run(self) -> None:
        """Commit until cancelled; what is being committed then is finished first."""
        loops = [asyncio.create_task(self._loop()) for _ in range(_LOOPS)]
        try:
            await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            for waiting in self._queue:
                _settle(waiting, _stopping())

    async def _loop(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._take()
            commit = asyncio.ensure_future(self._commit(batch))
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await commit
                raise

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and size < MAX_BATCH:
            size += max(1, len(self._queue[0].write.items))
            if batch and size > MAX_BATCH:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            with tracing.span(
                "commit", follows=(waiting.traceparent for waiting in batch), requests=len(batch)
            ):
                answers = await write_batch(
                    self._pool, [waiting.write for waiting in batch], datetime.now(UTC)
                )
        except EngramError as error:
            answers = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - a surprise fails its requests, not the loop
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        self._committed()
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        metrics.COMMIT_MEMORIES.observe(sum(len(waiting.write.items) for waiting in batch))
        for waiting, answer in zip(batch, answers, strict=True):
            _settle(waiting, answer)


def _settle(waiting: _Waiting, answer: Answer | EngramError) -> None:
    if waiting.answer.done():
        return
    if isinstance(answer, EngramError):
        waiting.answer.set_exception(answer)
    else:
        waiting.answer.set_result(answer)


def _stopping() -> UnavailableError:
    return UnavailableError(
        "stopping",
        "The server is stopping.",
        cure="Send again, with the same Idempotency-Key.",
        retry_after_s=1,
    )
