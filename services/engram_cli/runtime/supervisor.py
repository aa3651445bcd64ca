"""Keeps servers and services running: starts them, revives the dead, stops them in order."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Protocol

import structlog

from engram.errors import EngramError

from .children import trim_log
from .warden import Warden

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 10.0
_STEADY_S = 30.0
_TRIM_EVERY_S = 10.0

_log = structlog.get_logger(__name__)


class Unit(Protocol):
    """Something supervised: a server or a service."""

    name: str
    death_signal: signal.Signals

    @property
    def pid(self) -> int | None:
        """Process id of the current child."""
        ...

    async def start(self) -> None:
        """Start it; return when it works."""
        ...

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        ...

    async def stop(self) -> None:
        """Stop it in good order."""
        ...


class Supervisor:
    """Supervises units until it is told to stop.

    Args:
        log_dir: folder of the units' log files, which are kept bounded.
        warden: told of every child, so that none outlives a killed supervisor.
    """

    def __init__(self, log_dir: Path, warden: Warden) -> None:
        self._log_dir = log_dir
        self._warden = warden
        self._stages: list[tuple[Unit, ...]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trimmer = asyncio.create_task(self._trim_logs())

    async def start(self, *units: Unit) -> None:
        """Start units side by side and keep them running from now on.

        Raises:
            EngramError: the first unit that could not start says why.
        """
        self._stages.append(units)
        loop = asyncio.get_running_loop()
        started = [loop.create_future() for _ in units]
        for unit, future in zip(units, started, strict=True):
            self._tasks[unit.name] = asyncio.create_task(self._run(unit, future))
        await asyncio.gather(*started)

    async def stop(self) -> None:
        """Stop everything, in the reverse order of its start."""
        self._trimmer.cancel()
        for stage in reversed(self._stages):
            await asyncio.gather(*(self._stop_unit(unit) for unit in stage))
        self._stages.clear()

    async def _stop_unit(self, unit: Unit) -> None:
        task = self._tasks.pop(unit.name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        pid = unit.pid
        await unit.stop()
        if pid is not None:
            self._warden.forget(pid)

    async def _run(self, unit: Unit, started: "asyncio.Future[None]") -> None:
        try:
            await self._start_unit(unit)
        except asyncio.CancelledError:
            started.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to whoever waits in start()
            if not started.cancelled():
                started.set_exception(error)
            return
        if not started.cancelled():
            started.set_result(None)
        await self._keep(unit)

    async def _keep(self, unit: Unit) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            since, pid = time.monotonic(), unit.pid
            code = await unit.wait()
            if pid is not None:
                self._warden.forget(pid)
            _log.warning("child_ended", child=unit.name, pid=pid, exit_code=code)
            if time.monotonic() - since > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            backoff_s = await self._revive(unit, backoff_s)

    async def _revive(self, unit: Unit, backoff_s: float) -> float:
        """Start a dead unit again, however often it takes; return the next backoff in seconds."""
        while True:
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
            try:
                await self._start_unit(unit)
            except (EngramError, OSError) as error:
                _log.error("child_not_revived", child=unit.name, error=str(error))
            else:
                _log.info("child_revived", child=unit.name, pid=unit.pid)
                return backoff_s

    async def _start_unit(self, unit: Unit) -> None:
        await unit.start()
        if unit.pid is not None:
            self._warden.watch(unit.pid, unit.death_signal)

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(_TRIM_EVERY_S)
            for path in self._log_dir.glob("*.log"):
                with contextlib.suppress(OSError):
                    trim_log(path)
