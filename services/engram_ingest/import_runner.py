"""Runs import jobs as a background duty: claimed by lease, resumed where the last batch ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from engram.errors import EngramError, UnavailableError
from engram.storage import importing
from engram.storage.connection import UNREACHABLE, Pool, about
from engram.storage.importing import Job, LeaseLostError
from engram_ingest.admission import Admission
from engram_ingest.import_batches import Batch, Task
from engram_ingest.import_body import StoppedError
from engram_ingest.import_cleanup import sweep
from engram_ingest.import_file import ChunkFile
from engram_ingest.import_options import Options
from engram_ingest.import_pace import Pace
from engram_ingest.import_parsing import parsing
from engram_ingest.import_work import Work

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=10)
_EXTEND_S = 3.0
_POLL_S = 1.0
_SWEEP_S = 30.0
# Jobs of different workspaces that one process works on at once.
SLOTS = 2
# A job whose runner falls silent at the same place again and again is not tried for ever.
_MOST_ATTEMPTS = 5
_PAUSE = timedelta(seconds=2)


class ImportRunner:
    """Claims jobs and works on them; any number of processes may do so at once.

    Args:
        pool: of the API role: what a job writes passes row-level security like any request.
        worker: of the worker role, which sees the jobs of all workspaces.
        admission: says when jobs must wait.
        committed: called after each commit, to wake the relay.
        max_items: more end a job.

    Attributes:
        pace: told of requests that people wait for.
    """

    def __init__(
        self,
        pool: Pool,
        worker: Pool,
        admission: Admission,
        committed: Callable[[], None],
        max_items: int,
    ) -> None:
        self._pool = pool
        self._worker = worker
        self._admission = admission
        self._committed = committed
        self._max_items = max_items
        self.pace = Pace()
        self._woken = asyncio.Event()
        self._littered = asyncio.Event()

    def wake(self) -> None:
        """Say that this process has just queued a job, or given a body up."""
        self._woken.set()
        self._littered.set()

    async def run(self) -> None:
        """Work until cancelled; what is under way is given back then."""
        slots = [asyncio.create_task(self._slot()) for _ in range(SLOTS)]
        try:
            await asyncio.gather(self._sweeping(), *slots)
        finally:
            for slot in slots:
                slot.cancel()
            await asyncio.gather(*slots, return_exceptions=True)

    async def _slot(self) -> None:
        while True:
            self._woken.clear()
            if await self._patiently(self.work_once):
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._woken.wait()

    async def _sweeping(self) -> None:
        while True:
            self._littered.clear()
            await self._patiently(lambda: sweep(self._worker))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S):
                    await self._littered.wait()

    async def _patiently(self, duty: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await duty()
        except (*UNREACHABLE, UnavailableError) as error:
            log.warning("imports wait", error=type(error).__name__)
            await asyncio.sleep(_POLL_S)
            return False

    async def work_once(self) -> bool:
        """Claim one job and work on it until it ends or is lost; False when there is none."""
        holder = uuid4()
        async with self._worker.acquire() as connection:
            job = await importing.claim(connection, holder, LEASE)
        if job is None:
            return False
        log.info("import begins", job=str(job.id), position=job.position, attempt=job.attempts)
        file = ChunkFile(asyncio.get_running_loop(), self._pool, job)
        options = Options(**job.options)
        task = Task(job.workspace, job.id, job.position, options, self._max_items)
        work = Work(self._pool, job, holder, parsing(file, task), LEASE)
        async with self._held(job, holder, file):
            await self._settle(job, holder, work)
        self._committed()
        await sweep(self._worker, only=job.id)
        return True

    @contextlib.asynccontextmanager
    async def _held(self, job: Job, holder: UUID, file: ChunkFile) -> AsyncIterator[None]:
        """Extend the lease while inside; give the job back when the process stops."""
        extending = asyncio.create_task(self._extend(job, holder, file))
        try:
            yield
        except asyncio.CancelledError:
            file.stopped = True
            await self._release(job, holder, timedelta(0))
            raise
        finally:
            file.stopped = True
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)

    async def _extend(self, job: Job, holder: UUID, file: ChunkFile) -> None:
        while True:
            await asyncio.sleep(_EXTEND_S)
            with contextlib.suppress(*UNREACHABLE):
                async with self._worker.acquire() as connection:
                    if not await importing.extend(connection, job, holder, LEASE):
                        file.stopped = True
                        return

    async def _settle(self, job: Job, holder: UUID, work: Work) -> None:
        """Work on the job, and decide what an ending means."""
        try:
            if job.attempts > _MOST_ATTEMPTS:
                await work.fail(_never_ends())
                return
            await self._all(work)
        except (LeaseLostError, StoppedError):
            log.info("import left", job=str(job.id))
        except (*UNREACHABLE, UnavailableError) as error:
            log.warning("import waits", job=str(job.id), error=type(error).__name__)
            await self._release(job, holder, _PAUSE)
        except EngramError as error:
            with contextlib.suppress(LeaseLostError):
                await work.fail(error)
        except Exception as error:
            # Tried again a few times: what failed may be the machine's fault, not the file's.
            log.error("import failed", job=str(job.id), exc_info=error)
            await self._release(job, holder, _PAUSE)

    async def _all(self, work: Work) -> None:
        batches = work.reader.batches()
        loop = asyncio.get_running_loop()
        # One thread for the whole job: each further one would keep a heap of its own.
        thread = ThreadPoolExecutor(1, "import")
        ahead = loop.run_in_executor(thread, next, batches, None)
        try:
            while (batch := await ahead) is not None:
                # The next one is parsed while this one is written.
                ahead = loop.run_in_executor(thread, next, batches, None)
                for step in self.pace.steps(batch):
                    await self._admission.room_for_import()
                    await self._store(work, step)
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
            # Ends the process that parses; where a thread is in it still, that one ends it.
            with contextlib.suppress(ValueError):
                batches.close()
            thread.shutdown(wait=False)
        await work.finish()

    async def _store(self, work: Work, batch: Batch) -> None:
        started = time.monotonic()
        await work.store(batch)
        self._committed()
        await self.pace.rest(time.monotonic() - started)

    async def _release(self, job: Job, holder: UUID, pause: timedelta) -> None:
        with contextlib.suppress(*UNREACHABLE, UnavailableError):
            async with about(self._pool, [job.workspace]) as connection:
                await importing.release(connection, job, holder, pause)


def _never_ends() -> EngramError:
    return EngramError(
        "import_failed",
        f"The import failed {_MOST_ATTEMPTS} times at the same place.",
        cure="The log of the ingest service says why. What was stored is recognised next time.",
    )
