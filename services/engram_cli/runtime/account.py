"""Which system user the embedded PostgreSQL runs as when engram itself runs as root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram.errors import UnavailableError

# PostgreSQL refuses to run as root. A host that has its own "postgres" user is served by it.
_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged system user.

    Attributes:
        name: its name in the user database (initdb looks itself up there).
        uid: user id.
        gid: primary group id.
    """

    name: str
    uid: int
    gid: int


def server_account(data: Path | None = None) -> Account | None:
    """Return the user PostgreSQL must run as, or ``None`` for the user engram runs as.

    Args:
        data: a cluster's directory; if it exists, its owner goes on serving it.

    Raises:
        UnavailableError: engram runs as root and the host has no unprivileged user to borrow.
    """
    if os.geteuid() != 0:
        return None
    owner = None if data is None else _owner(data)
    found = [owner] if owner is not None else [_named(name) for name in _CANDIDATES]
    for entry in found:
        if entry is not None and entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise UnavailableError(
        "no_server_account",
        "PostgreSQL does not run as root, and this host has no user 'postgres' or 'nobody'.",
        cure="Run engram as an ordinary user.",
    )


def _owner(data: Path) -> pwd.struct_passwd | None:
    try:
        entry = pwd.getpwuid((data / "PG_VERSION").stat().st_uid)
    except (OSError, KeyError):
        return None
    return entry if entry.pw_uid != 0 else None


def _named(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def popen_options(account: Account | None) -> dict[str, Any]:
    """Return the ``subprocess`` options that make a child run as ``account``."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def give(path: Path, account: Account | None) -> None:
    """Make ``account`` the owner of one file or folder."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def closed_ancestor(path: Path, account: Account | None) -> Path | None:
    """Return the first folder above ``path`` that ``account`` may not pass through, or ``None``."""
    if account is None:
        return None
    for folder in reversed(path.absolute().parents):
        if folder.exists() and not _may_pass(folder.stat(), account):
            return folder
    return None


def _may_pass(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
