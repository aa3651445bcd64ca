"""A small file system of its own, to be filled and emptied while servers run on it."""

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 256 * 1024


@dataclass
class SmallDisk:
    """A mounted tmpfs.

    Attributes:
        folder: where it is mounted.
    """

    folder: Path

    def fill(self) -> None:
        """Take every byte that is left."""
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            for size in (_CHUNK_BYTES, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.folder / "filler").unlink(missing_ok=True)

    def full(self) -> bool:
        """Say whether nothing more can be written."""
        try:
            with (self.folder / "probe").open("wb", buffering=0) as probe:
                probe.write(b"\0" * 65536)
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            with contextlib.suppress(OSError):
                (self.folder / "probe").unlink()
        return False


@contextlib.contextmanager
def small_disk(size_mb: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs of this size and take it away afterwards; needs to be root, as CI is."""
    assert os.geteuid() == 0, "mounting a small file system needs root: run this test as root"
    folder = Path(tempfile.mkdtemp(prefix="engram-test-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0711", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a server that was killed a moment ago may still hold a file.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
        folder.rmdir()
