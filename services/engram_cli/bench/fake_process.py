"""The fake provider in a process of its own, so that it does not share the measured one's loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from engram.errors import UnavailableError

_START_S = 20.0


@contextlib.asynccontextmanager
async def fake_provider(*options: object) -> AsyncIterator[str]:
    """Run it with these command-line options; yield its base URL, which ends in ``/v1``.

    Raises:
        UnavailableError: ``bench_not_started``.
    """
    module = ("-m", "engram_cli.bench.fake_provider")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *module, *map(str, options), stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise UnavailableError("bench_not_started", "The fake provider has no output.")
        url = (await asyncio.wait_for(process.stdout.readline(), _START_S)).decode().strip()
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
