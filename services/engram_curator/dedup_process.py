"""The curator's end of the process that compares: start it, one batch at a time, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any, Final

_WORKER: Final = "engram_curator.dedup_worker"
_STOP_TIMEOUT_S: Final = 5.0
# One BLAS thread: more of them spin while they wait, and cost the rest of the machine 3 to 5 times.
_ONE_THREAD: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class ComparisonFailedError(Exception):
    """The process that compares died, or could not do what was asked."""


class Comparer:
    """A child that holds the vectors and texts of one batch; not for two batches at once."""

    def __init__(self) -> None:
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None while none has been started."""
        return None if self._process is None else self._process.pid

    async def send(self, request: dict[str, Any]) -> None:
        """Send a request that is answered by nothing, or before the rest of one that is.

        Raises:
            ComparisonFailedError: the process died.
        """
        await self.send_bytes(json.dumps(request).encode())

    async def send_bytes(self, body: bytes) -> None:
        """Send one frame, and wait while the child is behind: nothing piles up here."""
        stdin = (await self._running()).stdin
        assert stdin is not None  # noqa: S101 - we asked for the pipe
        try:
            stdin.write(struct.pack(">I", len(body)))
            stdin.write(body)
            await stdin.drain()
        except OSError as error:
            raise ComparisonFailedError(type(error).__name__) from error

    async def ask(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a request, or to what was sent before.

        Raises:
            ComparisonFailedError: the process died, or failed.
        """
        if request is not None:
            await self.send(request)
        stdout = (await self._running()).stdout
        assert stdout is not None  # noqa: S101 - we asked for the pipe
        try:
            (size,) = struct.unpack(">I", await stdout.readexactly(4))
            answer: dict[str, Any] = json.loads(await stdout.readexactly(size))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ComparisonFailedError(type(error).__name__) from error
        if "error" in answer:
            raise ComparisonFailedError(answer["error"])
        return answer

    async def stop(self) -> None:
        """End the child by closing its stdin, or kill it if it does not take the hint."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """End the child in the middle of whatever it is at."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _WORKER, stdin=PIPE, stdout=PIPE, env=_environment()
            )
        return self._process


def _environment() -> dict[str, str]:
    # The child compares and nothing else: it is not given the keys and passwords of this process.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ENGRAM_", "VOYAGE_", "PG"))
    }
    return {**kept, **_ONE_THREAD}
