"""One engram service as a child process: started, found ready, stopped."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from engram.errors import UnavailableError

from .children import Child, ChildSpec, start_child
from .forking import ForkServer, ForkServerError, forkable

_POLL_S = 0.02
_PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What to run as one service.

    Attributes:
        name: its name in logs and of its log file.
        argv: program and arguments.
        env: variables added to ours.
        ready_url: answers 2xx once the service works; ``""``: it is ready when started.
        ready_timeout_s: how long the first start may take.
        stop_grace_s: how long it may finish its work after SIGTERM.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str = ""
    ready_timeout_s: float = 60.0
    stop_grace_s: float = 20.0


class ServiceProcess:
    """A service while it is supervised.

    Args:
        spec: how it is run.
        log_dir: folder of its log.
        fork_server: forks it where that is possible; None: it is always started by itself.
    """

    death_signal = signal.SIGKILL

    def __init__(
        self, spec: ServiceSpec, log_dir: Path, fork_server: ForkServer | None = None
    ) -> None:
        self.name = spec.name
        self.spec = spec
        self._fork_server = fork_server
        self._log_path = log_dir / f"{spec.name}.log"
        self._child: Child | None = None
        self._last_words: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the last one started, or ``None``."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Start it; ``ready`` tells when it works."""
        from engram.settings import FILE_SUFFIX

        # What is given here replaces a file that the environment names for the same secret.
        replaced = {name + FILE_SUFFIX for name in self.spec.env}
        kept = {name: value for name, value in os.environ.items() if name not in replaced}
        env = {**kept, **self.spec.env}
        self._last_words = None
        self._child = await self._started(ChildSpec(self.name, self.spec.argv, self._log_path, env))

    async def _started(self, spec: ChildSpec) -> Child:
        if self._fork_server is not None and forkable(spec.argv):
            with contextlib.suppress(ForkServerError):
                return await self._fork_server.start_child(spec)
        return start_child(spec)

    async def ready(self) -> None:
        """Wait until it answers for the first time since it was started.

        Raises:
            UnavailableError: ``service_failed``, it ended instead or took too long.
        """
        deadline = time.monotonic() + self.spec.ready_timeout_s
        while self.spec.ready_url and not await answers(self.spec.ready_url):
            if self._last_words is not None:
                raise self._failure(f"ended while starting: {self._last_words}")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready in {self.spec.ready_timeout_s:.0f} s.")
            await asyncio.sleep(_POLL_S)

    async def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        if self._child is None:
            return 0
        code = await self._child.wait()
        lines = [line for line in self._child.log_text().splitlines() if line.strip()]
        self._last_words = lines[-1] if lines else f"it left no message (exit code {code})"
        return code

    async def stop(self) -> None:
        """Ask it to finish what it is doing; end it and its workers after the grace period."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, self.spec.stop_grace_s)

    def _failure(self, what: str) -> UnavailableError:
        return UnavailableError(
            "service_failed",
            f"The service {self.name} {what}",
            cure=f"See {self._log_path}.",
        )


async def answers(url: str) -> bool:
    """Say whether a GET of ``url`` (plain HTTP) is answered with a 2xx status."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                writer.write(request.encode("ascii"))
                status = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, ValueError):  # TimeoutError is an OSError
        return False
    return status[9:10] == b"2"
