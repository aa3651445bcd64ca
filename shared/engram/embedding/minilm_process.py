"""The parent's end of the local model's process: start, one call at a time, restart, stop.

A plain child with pipes instead of a process pool: a pool re-imports the parent's main module in
its child, loads numpy before its threads can be limited, and orphans it when the parent is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from engram.domain.vectors import Matrix
from engram.embedding.provider import ProviderError

_WORKER: Final = "engram.embedding.minilm_worker"
_STOP_TIMEOUT_S: Final = 5.0
# One BLAS thread: more of them spin while they wait, and cost the rest of the machine 3 to 5 times.
_ONE_THREAD: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class ModelProcess:
    """One child that holds the model; not for two calls at once."""

    def __init__(self, dimensions: int, timeout_s: float) -> None:
        self._dimensions = dimensions
        self._timeout_s = timeout_s
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None while none has been started."""
        return None if self._process is None else self._process.pid

    async def call(self, texts: Sequence[str]) -> tuple[Matrix, int]:
        """Embed texts in the child, starting it first if it is not running.

        Returns:
            What ``MiniLM.embed`` returns.

        Raises:
            ProviderError: ``server`` when the child died or refused, ``timeout`` when it took more
                than ``timeout_s``. The next call starts a new child.
        """
        process = await self._running()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(process, texts)
        except TimeoutError:
            await self._kill()
            detail = f"The local model took over {self._timeout_s:g} s."
            raise ProviderError("timeout", detail) from None
        except (asyncio.IncompleteReadError, OSError):
            await self._kill()
            raise ProviderError("server", "The local model's process died.") from None
        except ProviderError:
            raise  # the child answered, and is well
        except BaseException:
            # Cancelled in the middle: a late reply would be taken for the next call's.
            if process.returncode is None:
                process.kill()
            self._process = None
            raise

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

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _WORKER, stdin=PIPE, stdout=PIPE, env=_environment()
            )
        return self._process

    async def _exchange(self, process: Process, texts: Sequence[str]) -> tuple[Matrix, int]:
        assert process.stdin is not None  # noqa: S101 - we asked for both pipes
        assert process.stdout is not None  # noqa: S101 - we asked for both pipes
        request = json.dumps(list(texts)).encode()
        process.stdin.write(struct.pack(">I", len(request)) + request)
        await process.stdin.drain()
        head: dict[str, Any] = json.loads(await _read_frame(process.stdout))
        if "error" in head:
            raise ProviderError("server", f"The local model failed: {head['error']}.")
        body = await _read_frame(process.stdout)
        vectors = np.frombuffer(body, dtype=np.float32).reshape(-1, self._dimensions)
        return vectors, int(head["tokens"])

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _read_frame(stream: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">I", await stream.readexactly(4))
    return await stream.readexactly(size)


def _environment() -> dict[str, str]:
    # The child embeds and nothing else: it is not given the keys and passwords of this process.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ENGRAM_", "VOYAGE_", "PG"))
    }
    return {**kept, **_ONE_THREAD}
