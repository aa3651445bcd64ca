"""CPU time of the processes of one run, from Linux's /proc; elsewhere nothing is told."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    cpu_s: float
    argv: tuple[str, ...]


def cpu_seconds(root: int) -> dict[str, float]:
    """Return CPU seconds (user and system) so far, by who spent them.

    Children are summed, those that have ended too: a process's own counters include every child
    it has waited for.

    Args:
        root: process id of ``engram up``; its descendants are told apart by what they run.

    Returns:
        Seconds by ``postgres``, ``nats``, a service's name, ``supervisor``, and ``client`` for
        this process; empty where there is no /proc.
    """
    listed = _processes()
    if not listed:
        return {}
    times = os.times()
    spent: defaultdict[str, float] = defaultdict(float, {CLIENT: times.user + times.system})
    labels = {root: "supervisor"}
    # A parent may have a higher number than its child: pass on labels until none is new.
    waiting = [process for process in listed if process.pid != root]
    while found := [process for process in waiting if process.parent in labels]:
        for process in found:
            labels[process.pid] = _label(process.argv) or labels[process.parent]
        waiting = [process for process in waiting if process.pid not in labels]
    for process in listed:
        if process.pid in labels:
            spent[labels[process.pid]] += process.cpu_s
    return dict(spent)


def spent_since(before: Mapping[str, float], root: int) -> dict[str, float]:
    """Return CPU seconds by who spent them since ``before`` was taken, largest first."""
    now = cpu_seconds(root)
    gone = {label: seconds - before.get(label, 0.0) for label, seconds in now.items()}
    return dict(sorted(gone.items(), key=lambda entry: -entry[1]))


def pids_of(root: int, service: str) -> list[int]:
    """Return the processes of ``engram run SERVICE`` below ``engram up``; none without /proc."""
    listed = _processes()
    below = {root}
    while found := {p.pid for p in listed if p.parent in below} - below:
        below |= found
    return [p.pid for p in listed if p.pid in below and _label(p.argv) == service]


def children_of(pid: int) -> list[int]:
    """Return the processes that one has started itself; none without /proc."""
    return [process.pid for process in _processes() if process.parent == pid]


def _processes() -> list[_Process]:
    if not (_PROC / "self" / "stat").exists():
        return []
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found.append(_read(folder))
    return found


def _read(folder: Path) -> _Process:
    # The name in parentheses may hold anything; what follows its last one is fixed (proc(5)).
    fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    # What was forked shows one title with spaces in it, what was started by itself its arguments.
    argv = (folder / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").split()
    return _Process(int(folder.name), int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"), tuple(argv))


def _label(argv: tuple[str, ...]) -> str | None:
    program = Path(argv[0].rstrip(":")).name if argv else ""
    if program == "postgres":
        return "postgres"
    if program.startswith("nats-server"):
        return "nats"
    if "run" in argv[:-1]:
        return argv[argv.index("run") + 1]
    return None
