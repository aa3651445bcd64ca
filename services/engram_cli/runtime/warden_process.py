"""The program that outlives a killed ``engram up`` just long enough to clean up after it.

Run as ``python -I -S warden_process.py`` with a pipe from the supervisor as its input. Lines:
``watch GROUP SIGNAL``, ``forget GROUP``, ``folder PATH``. When the pipe closes, every watched
process group gets its signal and every named folder is removed. It imports nothing of engram, so
it starts in milliseconds and stays small.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_PATIENCE_S = 15.0
_POLL_S = 0.02


def main(lines: Iterable[str]) -> None:
    """Follow the supervisor's lines to their end, then end what it left."""
    groups: dict[int, int] = {}
    folders: list[Path] = []
    for line in lines:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "watch":
            number, how_to_end = rest.split()
            groups[int(number)] = int(how_to_end)
        elif verb == "forget":
            groups.pop(int(rest), None)
        elif verb == "folder":
            folders.append(Path(rest))
    for group, how in groups.items():
        _signal(group, how)
    deadline = time.monotonic() + _PATIENCE_S
    _wait_for(groups, deadline)
    _remove(folders, deadline)


def _signal(group: int, how: int) -> bool:
    try:
        os.killpg(group, how)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _wait_for(groups: Iterable[int], deadline: float) -> None:
    while time.monotonic() < deadline and any(_signal(group, 0) for group in groups):
        time.sleep(_POLL_S)


def _remove(folders: list[Path], deadline: float) -> None:
    # A server's last processes may still write into its folder for a moment: try until it is gone.
    while folders and time.monotonic() < deadline:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        folders = [folder for folder in folders if folder.exists()]
        time.sleep(_POLL_S)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.chdir("/")
    main(sys.stdin)
