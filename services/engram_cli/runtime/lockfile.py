"""One owner per directory: an advisory lock on a file that names its holder."""

import fcntl
import os
from pathlib import Path

from engram.errors import UnavailableError


class DirectoryLock:
    """A lock that ends with the last process holding its file open.

    It is released by closing, never by unlocking: children that inherited the descriptor keep the
    directory locked until they are gone, so an orphan's directory is never opened twice.

    Attributes:
        path: the lock file; it holds the owner's process id and stays behind when released.
        fd: the open descriptor while held, else ``None``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it, and say whether it is ours now.

        Raises:
            OSError: the lock file cannot be opened.
        """
        if self.fd is not None:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self.fd = fd
        return True

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UnavailableError: ``data_dir_locked``, naming the directory and the holder's pid.
        """
        if not self.try_acquire():
            raise self.refusal()

    def refusal(self) -> UnavailableError:
        """Return the error that names the directory and the process holding it."""
        pid = self.holder_pid()
        holder = "another process" if pid is None else f"process {pid}"
        return UnavailableError(
            "data_dir_locked",
            f"The data directory {self.path.parent} is in use by {holder}.",
            cure="Stop that engram, or choose another directory with --data.",
        )

    def is_held(self) -> bool:
        """Say whether somebody holds the lock now; the file is not touched."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def holder_pid(self) -> int | None:
        """Return the process id written by the last holder, or ``None``."""
        try:
            return int(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        """Close our descriptor; children that inherited it still hold the lock."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
