"""Opens what a command is given to read: a file, a folder as one archive, standard input."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from engram.errors import UsageError


def open_input(path: Path, stack: contextlib.ExitStack) -> BinaryIO:
    """Return what lies at a path as a stream that can seek; ``-`` is standard input.

    A folder becomes an uncompressed tar in a temporary file, written here: no other program is
    needed for it. What a link points to is put in, not the link.

    Args:
        path: of a file or folder.
        stack: closes everything that is opened.

    Raises:
        UsageError: it cannot be read.
    """
    if str(path) == "-":
        return _seekable(sys.stdin.buffer, stack)
    try:
        return _packed(path, stack) if path.is_dir() else stack.enter_context(path.open("rb"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError("unreadable_file", f"{path} cannot be read: {reason}.") from error


def _packed(folder: Path, stack: contextlib.ExitStack) -> BinaryIO:
    # The readers know archives: what belongs together is read, and reported, as one.
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    with tarfile.open(fileobj=copy, mode="w", dereference=True) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(folder).as_posix())
    copy.seek(0)
    return cast("BinaryIO", copy)


def _seekable(stream: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    # A try that failed is begun anew. Copied here, in the main thread, so that Ctrl-C ends it: a
    # worker thread that waits for a silent pipe could not be interrupted.
    if stream.seekable():
        return stream
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return cast("BinaryIO", copy)
