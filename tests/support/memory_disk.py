"""Temporary files of a test run in memory, where the machine has room for them.

Hundreds of databases are made and dropped in a run, and on a disk the making of their files is a
third of its time. No test needs the disk itself: what a killed process had written is there both
ways.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 6 * 1024**3


def use_memory_for_temporary_files() -> None:
    """Point TMPDIR, of this process and those it starts, to memory until the run ends.

    Who has set TMPDIR has chosen; so have the workers of a run, which inherit it.
    """
    if "TMPDIR" in os.environ or not _has_room():
        return
    folder = tempfile.mkdtemp(prefix="engram-tests-", dir=_MEMORY)
    Path(folder).chmod(0o711)  # PostgreSQL's user goes through it
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _has_room() -> bool:
    try:
        free_bytes = shutil.disk_usage(_MEMORY).free
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return free_bytes >= _NEEDED_BYTES and sum(map(int, available)) * 1024 >= _NEEDED_BYTES
