"""The embedded NATS server: JetStream on its own store, loopback only, one server per store."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import time
from pathlib import Path

from engram.errors import EngramError, UnavailableError

from .binaries import nats_server
from .children import Child, ChildSpec, start_child
from .cluster import disk_full, not_writable
from .lockfile import DirectoryLock
from .ports import HOST, choose_port, is_free, port_busy

_USER = "engram"
_POLL_S = 0.005
_ORPHAN_PATIENCE_S = 10.0
_STOP_GRACE_S = 10.0
_START_TRIES = 5
_MAX_PAYLOAD_BYTES = 1024 * 1024


class NatsServer:
    """One nats-server with JetStream on its own store directory.

    Attributes:
        name: ``nats``.
        data_dir: engram's data directory; the store lies in ``nats`` below it.
        port: the loopback port; chosen at the first start when 0, then kept.
    """

    name = "nats"
    death_signal = signal.SIGKILL

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        ephemeral: bool = False,
        ready_timeout_s: float = 60.0,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self._requested_port = port
        self._ephemeral = ephemeral
        self._ready_timeout_s = ready_timeout_s
        self._home = self.data_dir / "nats"
        self._lock = DirectoryLock(self._home / "store.lock")
        self._child: Child | None = None
        self._password = ""

    @property
    def pid(self) -> int | None:
        """Process id of the last server started, or ``None``."""
        return None if self._child is None else self._child.pid

    @property
    def nats_url(self) -> str:
        """Address with user name and password."""
        return f"nats://{_USER}:{self._password}@{HOST}:{self.port}"

    async def start(self) -> None:
        """Start the server and wait until it takes connections, its streams recovered.

        Raises:
            UnavailableError: with the reason and its cure.
        """
        binary = nats_server()
        self._prepare()
        await self._lock_store()
        try:
            await self._start_on_some_port(binary)
        finally:
            self._lock.release()  # the server holds it now

    async def wait(self) -> int:
        """Wait until the server ends, and return its exit code."""
        if self._child is None:
            return 0
        return await self._child.wait()

    async def stop(self) -> None:
        """Stop the server; it writes its state first."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, _STOP_GRACE_S)

    def kill9(self) -> None:
        """Kill the server as a crash would."""
        if self._child is not None:
            self._child.send(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop whatever runs and start again on the same port."""
        await self.stop()
        await self.start()

    def _prepare(self) -> None:
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._password = self._password or _kept_password(self._home / "password")
        except OSError as error:
            raise _not_prepared(self.data_dir, error) from error

    async def _lock_store(self) -> None:
        """Wait for a server whose engram was killed to be gone; two on one store corrupt it."""
        deadline = time.monotonic() + _ORPHAN_PATIENCE_S
        while not self._lock.try_acquire():
            if (self._child and self._child.running()) or time.monotonic() > deadline:
                raise self._lock.refusal()
            await asyncio.sleep(_POLL_S)

    async def _start_on_some_port(self, binary: Path) -> None:
        for attempt in range(_START_TRIES):
            if self.port == 0 or not is_free(self.port):
                self.port = choose_port(self.port, "--nats-port")
            try:
                await self._launch(binary)
            except EngramError as error:
                if error.code != "port_busy" or self._requested_port or attempt + 1 == _START_TRIES:
                    raise
                self.port = 0
            else:
                self._requested_port = self.port
                return

    async def _launch(self, binary: Path) -> None:
        config = self._home / "server.conf"
        _write_private(config, json.dumps(self._config()))
        spec = ChildSpec(
            name=self.name,
            argv=(str(binary), "-c", str(config)),
            log_path=self.data_dir / "logs" / "nats.log",
            env={"PATH": os.environ.get("PATH", "")},
            cwd=self._home,
            pass_fds=() if self._lock.fd is None else (self._lock.fd,),
            death_signal=self.death_signal,
        )
        self._child = start_child(spec)
        try:
            await self._wait_until_ready(self._child)
        except BaseException:  # also a cancelled start leaves nothing running
            await self._child.stop(signal.SIGKILL, 10)
            raise

    def _config(self) -> dict[str, object]:
        jetstream: dict[str, object] = {"store_dir": str(self._home / "store")}
        if not self._ephemeral:
            # Without it a power cut takes every acknowledged message of the last two minutes.
            jetstream["sync_interval"] = "always"
        return {
            "server_name": "engram",
            "host": HOST,
            "port": self.port,
            "max_payload": _MAX_PAYLOAD_BYTES,
            "authorization": {"user": _USER, "password": self._password},
            "jetstream": jetstream,
        }

    async def _wait_until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        while not await _greets(self.port):
            if not child.running():
                raise _start_failed(self, child)
            if time.monotonic() > deadline:
                raise UnavailableError(
                    "nats_slow",
                    f"nats-server was not ready after {self._ready_timeout_s:.0f} s.",
                    cure=f"See {child.spec.log_path}.",
                )
            await asyncio.sleep(_POLL_S)
        if not child.running():  # somebody else answered on that port
            raise _start_failed(self, child)


async def _greets(port: int) -> bool:
    """Say whether a NATS server with JetStream sends its INFO line on this port."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port, limit=64 * 1024)
    except OSError:
        return False
    try:
        line = await asyncio.wait_for(reader.readline(), 1.0)
    except (TimeoutError, OSError, ValueError):
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return line.startswith(b"INFO ") and b'"jetstream":true' in line


def _start_failed(server: NatsServer, child: Child) -> EngramError:
    said = child.log_text()
    if "address already in use" in said:
        return port_busy(server.port, "--nats-port")
    if "no space left on device" in said:
        return disk_full(server.data_dir)
    lines = [line for line in said.splitlines() if line.strip()]
    return UnavailableError(
        "nats_failed",
        f"nats-server did not start: {lines[-1] if lines else 'it left no message'}",
        cure=f"See {child.spec.log_path}.",
    )


def _not_prepared(data_dir: Path, error: OSError) -> EngramError:
    if error.strerror and "No space" in error.strerror:
        return disk_full(data_dir)
    return not_writable(data_dir)


def _kept_password(path: Path) -> str:
    """Return the password of this store, made at its first start."""
    with contextlib.suppress(FileNotFoundError):
        if kept := path.read_text(encoding="ascii").strip():
            return kept
    password = secrets.token_hex(24)
    _write_private(path, password)
    return password


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
