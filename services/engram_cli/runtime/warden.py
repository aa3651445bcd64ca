"""The supervisor's line to its warden: what must end if the supervisor is killed."""

import contextlib
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

_LAST_WAIT_S = 20.0


class Warden:
    """A helper process that ends our children's process groups should we be killed.

    The kernel kills our own children with us (on Linux), but not theirs: the worker processes of
    a service live on. The warden notices our death by its pipe closing, on any platform.
    """

    def __init__(self) -> None:
        self._groups: dict[int, signal.Signals] = {}
        self._folders: list[Path] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the helper process, and tell it all it must know."""
        with resources.as_file(resources.files(__package__) / "warden_process.py") as script:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                (sys.executable, "-I", "-S", str(script)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        for group, how in self._groups.items():
            self._write(f"watch {group} {int(how)}")
        for folder in self._folders:
            self._write(f"folder {folder}")

    def watch(self, group: int, how: signal.Signals = signal.SIGKILL) -> None:
        """Have the process group of a child end by ``how`` if we are killed."""
        self._groups[group] = how
        self._tell(f"watch {group} {int(how)}")

    def forget(self, group: int) -> None:
        """A child ended: its number may soon be somebody else's."""
        self._groups.pop(group, None)
        self._tell(f"forget {group}")

    def remove_folder(self, folder: Path) -> None:
        """Have a temporary folder removed in the end, even if we are killed."""
        self._folders.append(folder)
        self._tell(f"folder {folder}")

    def close(self) -> None:
        """Let the helper remove the folders and end."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_LAST_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None:
            return
        try:
            self._write(line)
        except OSError:  # somebody killed it: its successor is told everything
            self.close()
            self.start()

    def _write(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
