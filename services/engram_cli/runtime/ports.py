"""Which loopback ports the embedded servers listen on, and how one is kept for a child."""

import secrets
import socket
import sys

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
        return _binds(probe, port)


def free_port() -> int:
    """Return a loopback port nobody listens on or keeps.

    Raises:
        UnavailableError: none was found.
    """
    for _ in range(_TRIES):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        with socket.socket() as probe:
            if _binds(probe, port):
                return port
    raise UnavailableError("no_free_port", "No free loopback port was found.")


class Ports:
    """Ports kept for children that will listen on them, also while such a child is restarted.

    A port that was only looked at may be somebody else's when the child gets to it. On Linux a
    bound socket that never listens keeps it from everybody but those who reuse addresses, as our
    services do; elsewhere the port is only looked at.
    """

    def __init__(self) -> None:
        self._kept: list[socket.socket] = []

    def keep(self, requested: int = 0, option: str = "--port") -> int:
        """Return ``requested``, or a free port when it is 0, kept until ``release``.

        Raises:
            UnavailableError: ``port_busy``, the requested port is taken.
        """
        for _ in range(_TRIES):
            port = choose_port(requested, option)
            if self._keep(port) or requested:
                return port
        raise UnavailableError("no_free_port", "No free loopback port was found.")

    def keep_near(self, wanted: int) -> int:
        """Return ``wanted`` when nobody listens there, or a free port."""
        chosen_by_chance = _LOWEST <= wanted < _HIGHEST
        if wanted < 65_536 and (self._keep(wanted) or (not chosen_by_chance and is_free(wanted))):
            # Not kept: connections of a run that has just ended linger there, which is no obstacle.
            return wanted
        return self.keep()

    def release(self) -> None:
        """Give every port back."""
        while self._kept:
            self._kept.pop().close()

    def _keep(self, port: int) -> bool:
        keeper = socket.socket()
        if not _binds(keeper, port):
            keeper.close()
            return False
        if sys.platform == "linux":
            # After the bind, which had to be refused wherever anybody else is.
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.append(keeper)
        else:
            keeper.close()
        return True


def _binds(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind((HOST, port))
    except OSError:
        return False
    return True


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
