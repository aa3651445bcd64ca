"""Which loopback ports the embedded servers listen on."""

import secrets
import socket

from engram.errors import UnavailableError

HOST = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections (Linux: 32768 and up), so
# that nobody's connection sits on a server's port while that server is being restarted.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 200


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback port nobody listens on.

    Raises:
        UnavailableError: none was found.
    """
    for _ in range(_TRIES):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if is_free(port):
            return port
    raise UnavailableError("no_free_port", "No free loopback port was found.")


def choose_port(requested: int, option: str = "--port") -> int:
    """Return ``requested`` when it is free, or any free port when it is 0.

    Args:
        requested: the wanted port, 0 for any.
        option: the option the user would change, named in the cure.

    Raises:
        UnavailableError: ``port_busy``, the requested port is taken.
    """
    if requested == 0:
        return free_port()
    if is_free(requested):
        return requested
    raise port_busy(requested, option)


def port_busy(port: int, option: str = "--port") -> UnavailableError:
    """Return the error that names a taken port and what to do about it."""
    return UnavailableError(
        "port_busy",
        f"Port {port} on {HOST} is taken by another program.",
        cure=f"Stop that program, or choose another port with {option} ({option} 0: a free one).",
    )
