"""A PostgreSQL cluster on disk: made whole or not at all, with its roles, passwords and rules."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from engram.errors import EngramError, UnavailableError

from .account import Account, give
from .binaries import POSTGRES_MAJOR
from .children import ChildSpec, start_child

_SECRETS_FILE = "engram_passwords.json"
_NEW_PREFIX = "postgres.new-"
# Passwords only, and only over loopback: any user of the machine can open that port.
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"
_INITDB_OPTIONS = (
    "--username=postgres",
    # Sorting must not change with the host's C library under existing indexes.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--encoding=UTF8",
    "--no-instructions",
    "--auth=reject",
    "--no-sync",
)
_FAILED_STATEMENT = ("ERROR:", "FATAL:", "PANIC:")


@dataclass(frozen=True, slots=True)
class Passwords:
    """What the two login roles of a cluster log in with."""

    superuser: str
    engram: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data directory of PostgreSQL that may not exist yet.

    Attributes:
        path: the directory (PGDATA).
        bin_dir: where ``initdb`` and ``postgres`` lie.
        account: the user that owns it; ``None`` for ours.
        ephemeral: whether it may skip every wait for the disk.
    """

    path: Path
    bin_dir: Path
    account: Account | None
    ephemeral: bool

    async def ensure(self) -> Passwords:
        """Make the cluster if there is none, and return its passwords.

        Raises:
            UnavailableError: it is of another major version, its files are incomplete, the
                directory is not writable, or the disk is full.
        """
        if not (self.path / "PG_VERSION").exists():
            await self._create()
        _check_version(self.path)
        return read_passwords(self.path)

    async def _create(self) -> None:
        """Build the cluster beside its place and rename it: a killed build is never mistaken."""
        parent = self.path.parent
        for leftover in parent.glob(_NEW_PREFIX + "*"):
            shutil.rmtree(leftover, ignore_errors=True)
        new: Path | None = None
        try:
            new = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX, dir=parent))
            give(new, self.account)
            await self._fill(new)
            if self.path.is_dir():
                self.path.rmdir()  # an empty folder somebody made; anything else is refused
            new.rename(self.path)
            _sync_folder(parent)
        except OSError as error:
            raise creation_failed(self.path, str(error)) from error
        finally:
            if new is not None:
                shutil.rmtree(new, ignore_errors=True)

    async def _fill(self, new: Path) -> None:
        await self._run(
            new,
            (str(self.bin_dir / "initdb"), "-D", str(new), *_INITDB_OPTIONS),
        )
        passwords = Passwords(secrets.token_hex(24), secrets.token_hex(24))
        await self._single_user(new, passwords)
        self._write(new / "pg_hba.conf", _HBA)
        content = {"superuser": passwords.superuser, "engram": passwords.engram}
        self._write(new / _SECRETS_FILE, json.dumps(content))
        if not self.ephemeral:  # all of it at once: several times cheaper than as it is written
            await self._run(new, (str(self.bin_dir / "initdb"), "--sync-only", "-D", str(new)))

    async def _single_user(self, new: Path, passwords: Passwords) -> None:
        script = new / "engram_setup.sql"
        self._write(script, _setup_statements(passwords))
        postgres = (str(self.bin_dir / "postgres"), "--single", "-F", "-D", str(new))
        quiet = ("-c", "log_statement=none", "-c", "log_min_error_statement=panic", "template1")
        with script.open("rb") as statements:
            await self._run(new, postgres + quiet, statements.fileno())
        script.unlink()

    async def _run(self, new: Path, argv: Sequence[str], stdin: int = subprocess.DEVNULL) -> None:
        """Run one tool of the wheel to its end.

        Raises:
            UnavailableError: it failed; the tool's own last words are in the error.
        """
        log = self.path.parent / "logs" / "initdb.log"
        spec = ChildSpec("initdb", tuple(argv), log, env=_tool_env(), cwd=new, account=self.account)
        child = start_child(spec, stdin=stdin)
        try:
            code = await child.wait()
        finally:  # also when cancelled by a Ctrl-C: the folder goes, so must its writer
            await child.stop(signal.SIGKILL, 5)
        said = child.log_text()
        if code != 0 or any(word in said for word in _FAILED_STATEMENT):
            raise creation_failed(self.path, said)

    def _write(self, path: Path, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        give(path, self.account)


def creation_failed(path: Path, said: str) -> EngramError:
    """Return the error for a cluster that could not be made, from the tool's own words."""
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return disk_full(path)
    if "Permission denied" in said or "Read-only file system" in said:
        return not_writable(path.parent)
    lines = [line for line in said.splitlines() if line.strip()]
    return UnavailableError(
        "postgres_init_failed",
        f"The database in {path} could not be created: {lines[-1] if lines else 'no message'}",
        cure=f"See {path.parent / 'logs' / 'initdb.log'}.",
    )


def disk_full(path: Path) -> UnavailableError:
    """Return the error for a disk without room for the database."""
    return UnavailableError(
        "disk_full",
        f"The disk holding {path} is full.",
        cure="Free some space (a new database needs about 100 MB), or choose another --data.",
    )


def not_writable(folder: Path) -> UnavailableError:
    """Return the error for a data directory that cannot be written."""
    return UnavailableError(
        "data_dir_not_writable",
        f"The data directory {folder} is not writable.",
        cure="Change its owner or permissions, or choose another with --data.",
    )


def _setup_statements(passwords: Passwords) -> str:
    text = resources.files(__package__).joinpath("cluster.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return (
        "\n".join(lines).format(superuser_password=passwords.superuser, password=passwords.engram)
        + "\n"
    )


def _check_version(path: Path) -> None:
    found = (path / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != str(POSTGRES_MAJOR):
        raise UnavailableError(
            "postgres_version",
            f"The data in {path} was written by PostgreSQL {found}; this engram runs "
            f"PostgreSQL {POSTGRES_MAJOR}.",
            cure="Export with the engram that wrote it and import here, or choose an empty "
            "directory with --data.",
        )


def read_passwords(path: Path) -> Passwords:
    """Return the passwords of the cluster in ``path``.

    Raises:
        UnavailableError: engram did not make it, or it is damaged.
    """
    try:
        content = json.loads((path / _SECRETS_FILE).read_text(encoding="utf-8"))
        return Passwords(content["superuser"], content["engram"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            "data_dir_foreign",
            f"{path} holds a PostgreSQL database that engram did not make, or that is damaged.",
            cure="Restore it from a backup, or choose another directory with --data.",
        ) from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _tool_env() -> dict[str, str]:
    """Return an environment in which no PG* or LC_* variable of the user changes the outcome."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
