"""The process that services are forked from: it imports all of them once, while servers start.

Run as ``python -m engram_cli.runtime.fork_server FD`` with one end of a socket pair. It says
``{"ready": true}`` when it has imported everything, and then answers one JSON line with another:
``{"argv", "env", "cwd", "log"}`` with ``{"pid"}``, null when the system has no room for another
process, and ``{"wait": pid, "block": bool}`` with ``{"code"}``, null while that process still runs.
It ends when the socket closes, and the kernel ends its children with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any, Final

from setproctitle import getproctitle, setproctitle

from engram_cli.main import build_app, run
from engram_cli.runtime.children import die_with_parent
from engram_cli.services import SERVICES

# What a service imports only when it runs.
_LATER: Final = (
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)


def main(line: socket.socket) -> None:
    """Import everything, then fork whatever is asked for until nobody asks any more."""
    getproctitle()  # it finds where titles are kept while the environment is as it was
    build_app()
    for module in (*(where.partition(":")[0] for where in SERVICES.values()), *_LATER):
        importlib.import_module(module)
    gc.collect()
    # A collector that looked at what is shared would copy it into each child.
    gc.freeze()
    with line, line.makefile("rb") as requests:
        _answer(line, {"ready": True})
        for request in requests:
            asked = json.loads(request)
            _answer(line, _waited(asked) if "wait" in asked else _forked(asked, line))


def _answer(line: socket.socket, what: dict[str, Any]) -> None:
    line.sendall(json.dumps(what).encode() + b"\n")


def _waited(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        pid, status = os.waitpid(asked["wait"], 0 if asked["block"] else os.WNOHANG)
    except ChildProcessError:  # it ended with another process like this one
        return {"code": -signal.SIGKILL}
    return {"code": os.waitstatus_to_exitcode(status) if pid else None}


def _forked(asked: dict[str, Any], line: socket.socket) -> dict[str, Any]:
    try:
        reader, writer = os.pipe()
        parent, pid = os.getpid(), os.fork()
    except OSError:  # no room for another process now, which must not end those there are
        return {"pid": None}
    if pid == 0:
        # Closing alone would leave the socket to the reader that the request came through.
        for fd in (reader, line.detach()):
            os.close(fd)
        _become(asked, parent)
        os.close(writer)
        sys.exit(run(asked["argv"]))
    os.close(writer)
    os.read(reader, 1)  # until it leads its own group, so that who asked may signal that
    os.close(reader)
    return {"pid": pid}


def _become(asked: dict[str, Any], parent: int) -> None:
    """Be the program that was asked for, as if it had been started by itself."""
    os.setsid()
    die_with_parent(signal.SIGKILL, parent)
    _write_to(asked["log"])
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.argv[1:] = asked["argv"]
    setproctitle(" ".join(("engram", *asked["argv"])))


def _write_to(log: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(fd, standard)
    os.close(fd)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
