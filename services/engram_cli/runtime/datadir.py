"""The data directory of ``engram up``: where it is, who owns it, and how clients find it."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .account import server_account
from .cluster import disk_full, not_writable
from .lockfile import DirectoryLock

CREDENTIALS_FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach a running ``engram up``, as written to ``credentials.json`` (0600).

    Attributes:
        url: the HTTP API.
        api_key: a key for it.
        nats_url: the NATS server, with user and password.
        database_url: the database, with user and password.
        data_dir: the data directory.
        ops_url: health and metrics.
    """

    url: str
    api_key: str
    nats_url: str
    database_url: str
    data_dir: str
    ops_url: str


def default_data_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return ``ENGRAM_DATA_DIR``, or the platform's place for application data.

    Root's home is closed to the user PostgreSQL then runs as, so root's data lies in /var/lib.
    """
    if chosen := env.get("ENGRAM_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/engram")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "engram"
    base = env.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "engram"


@contextlib.contextmanager
def owned_data_dir(path: Path) -> Iterator[Path]:
    """Make the data directory and hold its lock.

    Raises:
        UnavailableError: another process holds it (named), or it cannot be written.
    """
    lock = DirectoryLock(path / "engram.lock")
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except OSError as error:
        raise (disk_full(path) if _is_full(error) else not_writable(path)) from error
    try:
        yield path
    finally:
        lock.release()


@contextlib.contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """Make a data directory for one run, and remove it afterwards."""
    path = Path(tempfile.mkdtemp(prefix="engram-ephemeral-"))
    path.chmod(0o700 if server_account() is None else 0o711)
    try:
        with owned_data_dir(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_credentials(data_dir: Path, credentials: Credentials) -> None:
    """Write ``credentials.json``, readable by its owner only, in one step."""
    temporary = data_dir / f"{CREDENTIALS_FILE}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(asdict(credentials), file, indent=2)
        file.write("\n")
    temporary.replace(data_dir / CREDENTIALS_FILE)


def read_credentials(data_dir: Path) -> Credentials | None:
    """Return what the last ``engram up`` on ``data_dir`` wrote, or ``None``."""
    try:
        content = json.loads((data_dir / CREDENTIALS_FILE).read_text(encoding="utf-8"))
        return Credentials(**content)
    except (OSError, ValueError, TypeError):
        return None


def _is_full(error: OSError) -> bool:
    return "No space" in (error.strerror or "")
