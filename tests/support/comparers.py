"""Comparing processes that outlive a test: what one has loaded, the next need not load again."""

import asyncio
import atexit
import contextlib
import os
import subprocess
import sys
from asyncio.streams import FlowControlMixin
from collections.abc import AsyncIterator
from dataclasses import dataclass

from engram_curator.dedup_process import Comparer

_COMMAND = [sys.executable, "-m", "engram_curator.dedup_worker"]
_idle: list[subprocess.Popen[bytes]] = []


@dataclass
class _Borrowed:
    """A process as asyncio's own look, with streams of this test's event loop."""

    process: subprocess.Popen[bytes]
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def kill(self) -> None:
        self.process.kill()

    async def wait(self) -> int:
        return await asyncio.to_thread(self.process.wait)


@contextlib.asynccontextmanager
async def comparing() -> AsyncIterator[Comparer]:
    """Yield a comparer; its process is kept for the next one, unless it was ended or failed."""
    comparer, process = Comparer(), _taken()
    borrowed = await _borrow(process)
    comparer._process = borrowed  # type: ignore[assignment]  # it behaves like one
    try:
        yield comparer
    except BaseException:
        process.kill()
        raise
    finally:
        if comparer._process is not borrowed:
            await comparer.kill()
        borrowed.stdin.transport.abort()
        borrowed.stdout._transport.close()  # type: ignore[attr-defined]  # nothing else closes a reader
        if process.poll() is None:
            _idle.append(process)


def _taken() -> subprocess.Popen[bytes]:
    while _idle:
        process = _idle.pop()
        if process.poll() is None:
            return process
    process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


async def _borrow(process: subprocess.Popen[bytes]) -> _Borrowed:
    loop = asyncio.get_running_loop()
    assert process.stdin is not None
    assert process.stdout is not None
    # Copies of the ends, for this event loop to close.
    stdin = os.fdopen(os.dup(process.stdin.fileno()), "wb", 0)
    stdout = os.fdopen(os.dup(process.stdout.fileno()), "rb", 0)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdout)
    transport, protocol = await loop.connect_write_pipe(FlowControlMixin, stdin)
    return _Borrowed(process, asyncio.StreamWriter(transport, protocol, None, loop), reader)
