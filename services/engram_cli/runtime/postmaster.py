"""What a running PostgreSQL says of itself on disk, and the orphans a killed one leaves."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_STATUS_LINE = 7


def status(data: Path, pid: int) -> str:
    """Return what postmaster ``pid`` wrote as its state: ``starting``, ``ready``, or ``""``.

    Source: PostgreSQL's utils/pidfile.h; ``pg_ctl`` waits on the same line.
    """
    lines = _pid_file(data)
    if len(lines) <= _STATUS_LINE or lines[0].strip() != str(pid):
        return ""
    return lines[_STATUS_LINE].strip()


def end_orphans(data: Path) -> None:
    """Tell every process of an earlier server on ``data`` to end now.

    SIGQUIT is PostgreSQL's immediate shutdown: nothing is lost, the next start recovers. Backends
    of a killed postmaster notice its death only when they next wait; they are told too.
    """
    for pid in _server_pids(data):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGQUIT)


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _server_pids(data: Path) -> list[int]:
    """Return the processes that run ``postgres`` inside ``data`` (Linux; none elsewhere)."""
    if sys.platform != "linux":
        return []
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _is_server(pid, data)]


def _is_server(pid: int, data: Path) -> bool:
    # A pid read from a file may long belong to somebody else: only a postgres inside our
    # directory is ours.
    try:
        process = Path("/proc") / str(pid)
        inside = (process / "cwd").readlink() == data
        return inside and (process / "exe").readlink().name.startswith("postgres")
    except OSError:
        return False
