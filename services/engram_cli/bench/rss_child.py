"""The measured process of ``engram bench rss``: runs ``engram``, then tells its own peak memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from engram_cli.main import run

_PROC = Path("/proc")


def peak_bytes(pid: int | None = None) -> int:
    """Return the most memory that a process, by default this one, has held so far.

    Linux's ``ru_maxrss`` is no use here: it survives exec, so it begins at what the parent held.
    """
    status = _PROC / ("self" if pid is None else str(pid)) / "status"
    if status.exists():
        lines = status.read_text().splitlines()
        [line] = [line for line in lines if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


if __name__ == "__main__":
    code = run(sys.argv[1:])
    print(peak_bytes(), flush=True)
    sys.exit(code)
