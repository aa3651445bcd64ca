"""Services forked from a process that has imported them already, where the system can do it.

Importing is most of what a start costs. Done once for all, beside the start of the servers, it
makes ``engram up`` ready in half the time, a killed service is back at once, and what they share is
in memory once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from .children import Child, ChildSpec, death_note, open_log

_MODULE: Final = "engram_cli.runtime.fork_server"
_PROGRAM: Final = (sys.executable, "-m", "engram_cli")
_GONE: Final = -signal.SIGKILL


class ForkServerError(Exception):
    """It does not run, or not any more: start the program by itself."""


@contextlib.contextmanager
def forking(logs: Path, *, start: bool = True) -> Iterator[ForkServer]:
    """Run a fork server that complains to a file in ``logs``; without ``start`` it only refuses."""
    server = ForkServer()
    if start:
        server.start(logs / "fork-server.log")
    try:
        yield server
    finally:
        server.close()


def forkable(argv: tuple[str, ...]) -> bool:
    """Say whether a program is one of ours, and the system can fork it safely."""
    return sys.platform == "linux" and argv[:3] == _PROGRAM


@dataclass(slots=True)
class Forked:
    """A forked process; as much of ``subprocess.Popen`` as children need.

    Attributes:
        pid: its process id.
        returncode: its exit code once it was waited for; negative for a signal.
    """

    server: ForkServer
    pid: int
    returncode: int | None = field(default=None)

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._waited(block=False)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        code = self._waited(block=True)
        return _GONE if code is None else code

    def send_signal(self, sig: int) -> None:
        """Signal it, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _waited(self, *, block: bool) -> int | None:
        if self.returncode is None:
            try:
                self.returncode = self.server.ask({"wait": self.pid, "block": block})["code"]
            except ForkServerError:  # it took its children with it
                self.returncode = _GONE
        return self.returncode


class ForkServer:
    """The process that forks, from its start to its end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._answers: BinaryIO | None = None
        self._imported = False
        self._importing = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Its process id while it is used."""
        return None if self._process is None else self._process.pid

    def start(self, log: Path) -> None:
        """Start it; it imports while others work. Call it from the main thread, as for children.

        Args:
            log: file that its complaints are appended to.
        """
        if sys.platform != "linux":
            return
        log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._line, self._answers = ours, ours.makefile("rb")
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                (sys.executable, "-m", _MODULE, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Threads do not survive a fork, and a service's sums need no more than one.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                preexec_fn=death_note(signal.SIGKILL),  # noqa: PLW1509 - only two system calls
            )

    async def start_child(self, spec: ChildSpec) -> Child:
        """Fork a program that is `forkable`, once everything is imported.

        Raises:
            ForkServerError: it does not run, or cannot fork now.
            OSError: the log file cannot be opened.
        """
        await asyncio.to_thread(self._wait_for_imports)
        with open_log(spec.log_path) as log:
            offset = os.lseek(log, 0, os.SEEK_END)
        asked = {
            "argv": spec.argv[len(_PROGRAM) :],
            "env": dict(os.environ if spec.env is None else spec.env),
            "cwd": str(spec.cwd or Path.cwd()),
            "log": str(spec.log_path),
        }
        pid = self.ask(asked)["pid"]
        if pid is None:
            raise ForkServerError
        return Child(spec, Forked(self, pid), offset)

    def ask(self, what: dict[str, Any]) -> dict[str, Any]:
        """Ask something and return the answer.

        Raises:
            ForkServerError: nobody answers any more.
        """
        if self._line is None:
            raise ForkServerError
        try:
            self._line.sendall(json.dumps(what).encode() + b"\n")
        except OSError as error:
            raise ForkServerError from error
        return self._answer()

    def close(self) -> None:
        """End it, and what it forked with it."""
        if self._process is None or self._line is None or self._answers is None:
            return
        self._process.kill()
        self._process.wait()
        self._answers.close()
        self._line.close()
        self._process = self._line = self._answers = None

    def _wait_for_imports(self) -> None:
        with self._importing:
            if not self._imported:
                self._answer()
                self._imported = True

    def _answer(self) -> dict[str, Any]:
        try:
            line = b"" if self._answers is None else self._answers.readline()
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            raise ForkServerError from error
        if not line:
            raise ForkServerError
        answer: dict[str, Any] = json.loads(line)
        return answer
