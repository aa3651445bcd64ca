"""Child processes that die with their parent, log to bounded files and are stopped by pid."""

import asyncio
import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .account import Account, popen_options

_PR_SET_PDEATHSIG = 1
_LOG_MAX_BYTES = 16 * 1024 * 1024
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start one child.

    Attributes:
        name: what it is called in logs.
        argv: program and arguments.
        log_path: file its stdout and stderr are appended to.
        env: its whole environment; ``None`` for ours.
        cwd: its working directory.
        account: the user it runs as; ``None`` for ours.
        pass_fds: descriptors it inherits, such as a lock.
        death_signal: what the kernel sends it when we die.
    """

    name: str
    argv: tuple[str, ...]
    log_path: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    pass_fds: tuple[int, ...] = ()
    death_signal: signal.Signals = signal.SIGKILL


class Process(Protocol):
    """As much of ``subprocess.Popen`` as is used of a child."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        ...

    def wait(self) -> int:
        """Wait for its end and return its exit code; negative for a signal."""
        ...

    def send_signal(self, sig: int) -> None:
        """Signal it, if it still runs."""
        ...


@dataclass(slots=True)
class Child:
    """One running child: the leader of its own session, so a terminal's Ctrl-C passes it by.

    Attributes:
        spec: how it was started.
        process: the process itself.
        log_offset: where in the log file this child's own output begins.
    """

    spec: ChildSpec
    process: Process
    log_offset: int = field(default=0)

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self.process.pid

    def running(self) -> bool:
        """Say whether it has not ended yet."""
        return self.process.poll() is None

    async def wait(self) -> int:
        """Wait until it ends, end what it left in its process group, return its exit code."""
        if self.process.returncode is None:
            await _wait_for_exit(self.process)
        return self.process.wait()

    async def stop(self, how: signal.Signals, grace_s: float) -> int:
        """Signal it and wait; after ``grace_s`` seconds kill its whole process group."""
        self.send(how)
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.kill()
            return await self.wait()

    def send(self, how: signal.Signals) -> None:
        """Signal the child itself, if it still runs."""
        self.process.send_signal(how)

    def kill(self) -> None:
        """Kill its process group, at once, if it still runs."""
        if self.running():
            _kill_group(self.pid)

    def log_text(self, max_bytes: int = 8192) -> str:
        """Return the end of what this child has written, at most ``max_bytes``."""
        with contextlib.suppress(OSError), self.spec.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            start = self.log_offset if self.log_offset <= end else 0
            log.seek(max(start, end - max_bytes))
            return log.read().decode("utf-8", "replace")
        return ""


def start_child(spec: ChildSpec, stdin: int = subprocess.DEVNULL) -> Child:
    """Start a child. Call it from the main thread: Linux ties "my parent died" to the thread.

    Args:
        spec: how to start it.
        stdin: descriptor it reads from; nothing by default.

    Raises:
        OSError: the program or its log file cannot be opened.
    """
    with open_log(spec.log_path) as log:
        offset = os.lseek(log, 0, os.SEEK_END)
        process = subprocess.Popen(  # noqa: S603 - the arguments are ours
            spec.argv,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=spec.env,
            cwd=spec.cwd,
            pass_fds=spec.pass_fds,
            start_new_session=True,
            preexec_fn=death_note(spec.death_signal),  # noqa: PLW1509 - only two system calls
            **popen_options(spec.account),
        )
    return Child(spec, process, offset)


@contextlib.contextmanager
def open_log(path: Path) -> Iterator[int]:
    """Yield a descriptor that appends to a log, cut when it had grown too long.

    Raises:
        OSError: it cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    trim_log(path)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield log
    finally:
        os.close(log)


def trim_log(path: Path, max_bytes: int = _LOG_MAX_BYTES) -> None:
    """Move the content of a log above ``max_bytes`` to ``<name>.1``, while its writer goes on.

    The file is cut, not renamed, because the writer keeps it open (for appending: its next line
    lands at the new end).
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > max_bytes:
            shutil.copyfile(path, path.with_suffix(path.suffix + ".1"))
            os.truncate(path, 0)


def death_note(how: signal.Signals) -> Callable[[], None] | None:
    """Return what a new child does so that it dies with us (Linux; elsewhere the warden helps)."""
    if sys.platform != "linux":
        return None
    _libc()  # found before the fork
    return functools.partial(die_with_parent, how, os.getpid())


def die_with_parent(how: signal.Signals, parent: int) -> None:
    """Have the kernel send us a signal when our parent ends (Linux).

    Args:
        how: the signal.
        parent: process id of the parent that forked us.
    """
    _libc().prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0)
    if os.getppid() != parent:  # it died before the call took effect
        os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


async def _wait_for_exit(process: Process) -> None:
    """Return once ``process`` has ended, leaving nothing of its group alive."""
    if not hasattr(os, "pidfd_open"):
        while process.poll() is None:  # noqa: ASYNC110 - nothing else tells of a child's end here
            await asyncio.sleep(_POLL_S)
        return
    pidfd = os.pidfd_open(process.pid)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    # Until it is waited for, its pid (our name for the group) cannot belong to anybody else.
    if process.returncode is None:
        _kill_group(process.pid)


def _kill_group(pgid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)
