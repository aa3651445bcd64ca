"""The thread that mirrors: it reads what the old store holds now and publishes that to engram."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from engram.dualwrite import flows
from engram.dualwrite.answers import written_since
from engram.dualwrite.bells import SCANS_S, Bell, Bells
from engram.dualwrite.flows import Flow
from engram.dualwrite.publishing import MirrorPublisher
from engram.dualwrite.stats import Ledger
from engram.dualwrite.stores import OldStore, Row
from engram.errors import EngramError, InvalidError, MalformedError, TooLargeError

T = TypeVar("T")
_log = logging.getLogger("engram.dualwrite")

_BATCH: Final = 64
_READERS: Final = 8
_READ_TIMEOUT_S: Final = 30.0
_TAKEN_LOOK_S: Final = 0.05
# So often a memory that was stored must be absent before it counts as deleted: a store may need a
# moment until it shows what it has stored, and a tombstone is for ever.
_BELIEVE_ABSENT: Final = 5
_LONGEST_IDLE_S: Final = 1.0
_MOST_REREADS: Final = 3  # rows of which something changes at every reading end, too
_REMEMBERED: Final = 1024

Found = Row | None


class Mirror:
    """Owns the bells, the connection to NATS and the thread they live in.

    Args:
        store: where the truth is read.
        ledger: counts what is done.
        publisher: makes a publisher, in the thread.
        on_closed: told the operations that are mirrored.
        note: records further memories of an operation, durably, and rings for them.
        reread: read each row again after it is published, and publish it again when another
            process has changed it meanwhile.
    """

    def __init__(
        self,
        store: OldStore,
        ledger: Ledger,
        publisher: Callable[[], MirrorPublisher],
        on_closed: Callable[[Sequence[int]], None],
        note: Callable[[Sequence[str], dict[str, str]], None],
        *,
        reread: bool = True,
    ) -> None:
        self._store, self._ledger = store, ledger
        self._make_publisher = publisher
        self._on_closed, self._note = on_closed, note
        self._reread = reread
        self._owner: asyncio.AbstractEventLoop | None = None
        self._bells = Bells()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._rung = asyncio.Event()
        self._publisher: MirrorPublisher | None = None
        self._under_way: dict[str, list[str]] = {}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="engram-mirror-read")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engram-mirror", daemon=True)
        self._thread.start()

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop an asynchronous client of the old store lives."""
        self._owner = loop

    def ring(self, bells: Sequence[Bell]) -> None:
        """Add bells, from any thread."""
        with self._lock:
            for bell in bells:
                self._bells.ring(bell)
        with contextlib.suppress(RuntimeError):  # the loop has ended: the journal keeps them
            self._loop.call_soon_threadsafe(self._rung.set)

    def waiting(self) -> tuple[int, float]:
        """Return how many operations are not mirrored, and the age of the oldest in seconds."""
        with self._lock:
            return len(self._bells), self._bells.oldest_s(time.monotonic())

    def stop(self) -> None:
        """End the thread; what is not mirrored stays in the journal."""
        self._stopping = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)
        self._thread.join()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._mirror())
            self._loop.run_until_complete(_end_all())
        finally:
            self._loop.close()

    async def _mirror(self) -> None:
        while not self._stopping:
            self._rung.clear()
            with self._lock:
                batch = self._bells.take(time.monotonic(), _BATCH)
            if not batch:
                await self._idle()
                continue
            try:
                await self._until_stopped(self._batch(batch))
            except Exception as error:  # noqa: BLE001 - nothing may end the thread
                self._failed(batch, error)
        if self._publisher is not None:
            await self._publisher.close()

    async def _idle(self) -> None:
        with self._lock:
            due_at_s = self._bells.next_due_s()
        wait_s = _LONGEST_IDLE_S if due_at_s is None else due_at_s - time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), min(_LONGEST_IDLE_S, max(0.001, wait_s)))

    async def _until_stopped(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=0.2)
            if self._stopping and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return
        task.result()

    async def _batch(self, batch: Sequence[Bell]) -> None:
        publisher = await self._connected(batch)
        if publisher is None:
            return
        await self._forget_done(publisher)
        free: list[Bell] = []
        for bell in batch:
            if bell.since is not None:
                await self._scan(bell)
            elif await self._is_free(publisher, bell):
                free.append(bell)
            else:
                self._later(bell, _TAKEN_LOOK_S)
        await self._publish(publisher, free)

    async def _connected(self, batch: Sequence[Bell]) -> MirrorPublisher | None:
        if self._publisher is None:
            publisher = self._make_publisher()
            try:
                await publisher.connect()
            except EngramError as error:
                self._failed(batch, error)
                return None
            self._publisher = publisher
        return self._publisher

    async def _is_free(self, publisher: MirrorPublisher, bell: Bell) -> bool:
        """Say whether what was published of a memory before is done: so its order is kept."""
        for event_id in self._under_way.get(bell.key, ()):
            try:
                if not await publisher.taken(event_id):
                    return False
            except EngramError as error:
                _log.info("cannot see what is done: %s", error.code)
                return False
        self._under_way.pop(bell.key, None)
        return True

    async def _forget_done(self, publisher: MirrorPublisher) -> None:
        for key in list(self._under_way)[: max(0, len(self._under_way) - _REMEMBERED)]:
            if not await self._is_free(publisher, Bell(key, {})):
                return

    async def _publish(self, publisher: MirrorPublisher, bells: Sequence[Bell]) -> None:
        read = await asyncio.gather(*(self._look(bell) for bell in bells), return_exceptions=True)
        rows: list[tuple[Bell, Row]] = []
        gone: list[Bell] = []
        for bell, found in zip(bells, read, strict=True):
            if isinstance(found, BaseException):
                self._failed([bell], found)
            elif found is not None:
                rows.append((bell, found))
            elif bell.gone or bell.absences >= _BELIEVE_ABSENT:
                gone.append(bell)
            else:
                bell.absences += 1
                self._later(bell, bell.wait_s())
        await self._delete(publisher, gone)
        await self._put(publisher, rows)

    async def _look(self, bell: Bell) -> Found:
        if bell.gone:
            return None
        return await self._read(self._store.read(bell.key, bell.scope))

    async def _delete(self, publisher: MirrorPublisher, bells: Sequence[Bell]) -> None:
        if not bells:
            return
        named = [bell.key for bell in bells]
        event_id = str(uuid.uuid4())
        try:
            sent = await publisher.delete_named(self._store.source, named, event_id=event_id)
        except EngramError as error:
            self._failed(bells, error)
            return
        self._sent(bells, sent)
        self._done(bells, "deleted")

    async def _put(self, publisher: MirrorPublisher, rows: Sequence[tuple[Bell, Row]]) -> None:
        if not rows:
            return
        bells = [bell for bell, _ in rows]
        try:
            sent = await publisher.put(
                [row for _, row in rows],
                format_name=self._store.format,
                event_id=str(uuid.uuid4()),
            )
        except (InvalidError, TooLargeError, MalformedError) as error:
            if len(rows) == 1:
                self._refused(bells[0], error)
                return
            for one in rows:
                await self._put(publisher, [one])
        except EngramError as error:
            self._failed(bells, error)
        else:
            self._sent(bells, sent)
            await self._see_again(rows)

    async def _see_again(self, rows: Sequence[tuple[Bell, Row]]) -> None:
        bells = [bell for bell, _ in rows]
        if not self._reread:
            self._done(bells, "put")
            return
        read = await asyncio.gather(*(self._look(bell) for bell in bells), return_exceptions=True)
        for (bell, row), found in zip(rows, read, strict=True):
            bell.rereads += 1
            if found == row or bell.rereads > _MOST_REREADS:
                self._done([bell], "put")
            else:
                self._later(bell, _TAKEN_LOOK_S)

    async def _scan(self, bell: Bell) -> None:
        try:
            told = await self._read(self._store.resolve(bell.event_id)) if bell.event_id else None
            if told is not None and not told.pending:
                self._note([*told.touched, *told.gone], bell.scope)
                self._done([bell], "scanned")
                return
            rows = await self._read(self._store.rows(bell.scope))
        except Exception as error:  # noqa: BLE001 - whatever a client of somebody else raises
            self._failed_scan(bell, error)
            return
        found = {self._store.id_of(row) for row in rows if written_since(row, bell.since or "")}
        self._note(sorted(found - bell.seen), bell.scope)
        bell.seen |= found
        self._next_scan(bell)

    def _failed_scan(self, bell: Bell, error: Exception) -> None:
        self._ledger.count("retries")
        _log.info("the old store cannot be listed: %s", type(error).__name__)
        self._next_scan(bell)

    def _next_scan(self, bell: Bell) -> None:
        bell.tries += 1
        if bell.tries < (len(SCANS_S) if bell.expected else 2):
            self._later(bell, SCANS_S[bell.tries])
            return
        if bell.expected and not bell.seen:
            name = ",".join(f"{key}={value}" for key, value in sorted(bell.scope.items()))
            self._ledger.diverge("unresolved", name, "the old store never said what it stored")
        self._done([bell], "scanned")

    async def _read(self, flow: Flow[T]) -> T:
        if self._owner is not None:
            asked = asyncio.run_coroutine_threadsafe(flows.run_async(flow), self._owner)
            return await asyncio.wait_for(asyncio.wrap_future(asked), _READ_TIMEOUT_S)
        reading = self._loop.run_in_executor(self._readers, flows.run, flow)
        return await asyncio.wait_for(reading, _READ_TIMEOUT_S)

    def _sent(self, bells: Sequence[Bell], event_ids: Sequence[str]) -> None:
        for bell in bells:
            self._under_way[bell.key] = list(event_ids)

    def _refused(self, bell: Bell, error: EngramError) -> None:
        self._ledger.diverge("refused", bell.key, f"{error.code}: {error.detail}")
        self._done([bell], "refused")

    def _failed(self, bells: Sequence[Bell], error: BaseException) -> None:
        code = getattr(error, "code", type(error).__name__)
        _log.info("%d writes are mirrored later: %s", len(bells), code)
        self._ledger.count("retries", len(bells))
        for bell in bells:
            self._later(bell, bell.wait_s())

    def _later(self, bell: Bell, wait_s: float) -> None:
        with self._lock:
            self._bells.again(bell, time.monotonic() + wait_s)

    def _done(self, bells: Sequence[Bell], counter: str) -> None:
        self._ledger.count(counter, len(bells))
        with self._lock:
            closed = [one for bell in bells for one in self._bells.done(bell.numbers)]
        if closed:
            self._on_closed(closed)


async def _end_all() -> None:
    """End what a connection has left running in this loop."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
