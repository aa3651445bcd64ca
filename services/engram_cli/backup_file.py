"""The backup file: a zip of what pg_dump wrote and a manifest of what it must restore."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

from engram.errors import MalformedError, UsageError

FORMAT: Final = "engram-backup"
VERSION: Final = 1
DUMP: Final = "store.pgdump"
MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 1 << 20
_MAX_MANIFEST_BYTES: Final = 16 << 20
_NEEDED: Final = ("engram", "schema_version", "created_at", "postgres", "dump", "tables")


class BackupWriter:
    """Writes the two members of a backup, the dump as it comes.

    Args:
        file: where to; it may be written once.
    """

    def __init__(self, file: BinaryIO) -> None:
        # Stored, not deflated: pg_dump has compressed it already.
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._dump: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        """Add bytes to the dump."""
        if self._dump is None:
            self._dump = self._zip.open(DUMP, "w", force_zip64=True)
        self._dump.write(data)
        self._sha256.update(data)
        self._bytes += len(data)

    def abandon(self) -> None:
        """Let go of the file, whose content is worth nothing."""
        with contextlib.suppress(OSError, ValueError):
            if self._dump is not None:
                self._dump.close()
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()

    def close(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Add the manifest, close the file and return the manifest as it was written."""
        if self._dump is not None:
            self._dump.close()
        dump = {"name": DUMP, "bytes": self._bytes, "sha256": self._sha256.hexdigest()}
        whole = {"format": FORMAT, "version": VERSION, **manifest, "dump": dump}
        self._zip.writestr(MANIFEST, json.dumps(whole, indent=1))
        self._zip.close()
        return whole


@contextlib.contextmanager
def open_backup(path: Path) -> Iterator[tuple[dict[str, Any], zipfile.ZipFile]]:
    """Yield the manifest of a backup and the zip it lies in.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it is no backup, or one of a later kind.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as packed:
            yield _manifest(packed), packed
    except zipfile.BadZipFile:
        raise _no_backup("it is no zip file, or was cut off") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError("unreadable_file", f"{path} cannot be read: {reason}.") from error


def verify(manifest: dict[str, Any], packed: zipfile.ZipFile) -> None:
    """Read the dump once and hold it against the manifest.

    Raises:
        MalformedError: it is damaged.
    """
    sha256, size = hashlib.sha256(), 0
    try:
        for data in dump_chunks(packed):
            sha256.update(data)
            size += len(data)
    except (zipfile.BadZipFile, EOFError):
        raise damaged() from None
    if (size, sha256.hexdigest()) != (manifest["dump"]["bytes"], manifest["dump"]["sha256"]):
        raise damaged()


def dump_chunks(packed: zipfile.ZipFile) -> Iterator[bytes]:
    """Yield the dump in pieces."""
    with packed.open(DUMP) as dump:
        while data := dump.read(_CHUNK_BYTES):
            yield data


def _manifest(packed: zipfile.ZipFile) -> dict[str, Any]:
    try:
        if packed.getinfo(MANIFEST).file_size > _MAX_MANIFEST_BYTES:
            raise _no_backup("its manifest is far too large")
        manifest = json.loads(packed.read(MANIFEST))
        packed.getinfo(DUMP)
    except (KeyError, ValueError, RecursionError, EOFError):
        raise _no_backup("it lacks a manifest or a dump") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _no_backup("its manifest says something else")
    if manifest.get("version") != VERSION or any(name not in manifest for name in _NEEDED):
        raise _no_backup("it was made by an engram that this one does not know")
    return manifest


def _no_backup(why: str) -> MalformedError:
    return MalformedError(
        "not_a_backup",
        f"The file is no backup of engram: {why}.",
        cure="Name a file that `engram backup` wrote; an export goes in with `engram import`.",
    )


def damaged() -> MalformedError:
    """Return the error for a dump that is not what the manifest says."""
    return MalformedError(
        "damaged_backup",
        "The backup is damaged: what it holds is not what was written.",
        cure="Take another copy of it; nothing was restored.",
    )
