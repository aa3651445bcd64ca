"""Runs an ASGI application on a port of our own choosing, inside the service's event loop."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from engram.errors import UnavailableError

_BACKLOG = 2048


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Return a listening socket; who connects early waits until it is served.

    Args:
        host: address to listen on.
        port: 0 for a free one.
        setting: what the cure tells the user to change.

    Raises:
        UnavailableError: the port is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        # At once, not when serving begins: until then a second process could bind the port too.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        busy = error.errno == errno.EADDRINUSE
        raise UnavailableError(
            "port_busy" if busy else "port_refused",
            f"Port {port} of {host} is {'in use' if busy else 'not ours to use'}.",
            cure=f"Stop what listens there, or set {setting} to another port (0: a free one).",
        ) from error
    bound.setblocking(False)
    return bound


class _Server(uvicorn.Server):
    """Leaves signals to the service, which drains more than HTTP."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, bound: socket.socket, *, drain_s: int = 10) -> None:
    """Serve until cancelled, then finish the requests in flight."""
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=drain_s,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
