"""The embedded PostgreSQL server: loopback only, recovering, and gone when engram is gone."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from engram.errors import EngramError, UnavailableError

from . import postmaster
from .account import Account, closed_ancestor, server_account
from .binaries import postgres_bin
from .children import Child, ChildSpec, start_child
from .cluster import Cluster, Passwords, disk_full, not_writable
from .lockfile import DirectoryLock
from .ports import HOST, choose_port, is_free, port_busy

DATABASE = "engram"
_POLL_S = 0.01
_ORPHAN_PATIENCE_S = 30.0
_STOP_GRACE_S = 30.0
_START_TRIES = 5
_SAY_EVERY_S = 2.0
_MIN_SHM_BYTES = 1 << 30

# For a laptop with two cores. JIT costs more than it gives on short queries; the wheel is built
# without lz4, and pglz on pages of vectors burns time and saves nothing.
_SETTINGS = MappingProxyType(
    {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": "256MB",
        "maintenance_work_mem": "512MB",
        "max_wal_size": "2GB",
        "wal_compression": "off",
        "jit": "off",
        # A backend that waits for an I/O worker of a killed postmaster waits for ever.
        "io_method": "sync",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        # Statements carry content; logs do not.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length_on_error": "0",
    }
)
_EPHEMERAL = MappingProxyType(
    {
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "shared_buffers": "64MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
    }
)


class PostgresServer:
    """One PostgreSQL 18 with pgvector on its own data directory.

    Attributes:
        name: ``postgres``.
        data_dir: engram's data directory; the cluster lies in ``postgres`` below it.
        port: the loopback port; chosen at the first start when 0, then kept.

    Args:
        data_dir: see above.
        port: wanted port; 0 for a free one.
        ephemeral: never wait for the disk: for data nobody will miss.
        settings: PostgreSQL settings that override ours.
        ready_timeout_s: how long crash recovery may take.
        progress: told, every two seconds, that recovery is still under way.
    """

    name = "postgres"
    death_signal = signal.SIGQUIT  # ends the backends too, and frees shared memory

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        ephemeral: bool = False,
        settings: Mapping[str, str] | None = None,
        ready_timeout_s: float = 120.0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self._requested_port = port
        self._ephemeral = ephemeral
        self._settings = dict(settings or {})
        self._ready_timeout_s = ready_timeout_s
        self._progress = progress
        self._lock = DirectoryLock(self.data_dir / "postgres.lock")
        self._child: Child | None = None
        self._passwords: Passwords | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the last postmaster started, or ``None``."""
        return None if self._child is None else self._child.pid

    @property
    def database_url(self) -> str:
        """DSN of the database ``engram`` as its owner, the login role ``engram``."""
        return self.dsn(DATABASE)

    def dsn(self, database: str) -> str:
        """Return the DSN of any database as the login role ``engram``."""
        return f"postgresql://engram:{self._known().engram}@{HOST}:{self.port}/{database}"

    def superuser_dsn(self, database: str = DATABASE) -> str:
        """Return the DSN of any database as the superuser ``postgres``."""
        return f"postgresql://postgres:{self._known().superuser}@{HOST}:{self.port}/{database}"

    async def start(self) -> None:
        """Make the cluster if needed, start the server and wait until it answers.

        Raises:
            UnavailableError: with the reason and its cure.
        """
        data, account = _prepare(self.data_dir)
        bin_dir = await asyncio.to_thread(postgres_bin, account)
        await self._lock_directory(data)
        try:
            cluster = Cluster(data, bin_dir, account, self._ephemeral)
            self._passwords = await cluster.ensure()
            await self._start_on_some_port(cluster)
        finally:
            self._lock.release()  # the server holds it now, and whatever it leaves behind

    async def wait(self) -> int:
        """Wait until the server ends, and return its exit code."""
        if self._child is None:
            return 0
        return await self._child.wait()

    async def stop(self) -> None:
        """Shut down fast: roll back what is open, write everything, end."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT, _STOP_GRACE_S)

    def kill9(self) -> None:
        """Kill the postmaster as a crash would."""
        if self._child is not None:
            self._child.send(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop whatever runs and start again on the same port."""
        await self.stop()
        await self.start()

    def _known(self) -> Passwords:
        if self._passwords is None:
            raise RuntimeError("the server was never started")
        return self._passwords

    async def _lock_directory(self, data: Path) -> None:
        """Wait for what a killed server left, and refuse a directory whose owner lives."""
        deadline = time.monotonic() + _ORPHAN_PATIENCE_S
        while not self._lock.try_acquire():
            if self._lock_is_owned() or time.monotonic() > deadline:
                raise self._lock.refusal()
            postmaster.end_orphans(data)
            await asyncio.sleep(_POLL_S)

    def _lock_is_owned(self) -> bool:
        """Say whether somebody alive keeps a server here, rather than left one behind."""
        holder = self._lock.holder_pid()
        if holder == os.getpid():
            return self._child is None or self._child.running()
        return holder is not None and _alive(holder)

    async def _start_on_some_port(self, cluster: Cluster) -> None:
        for attempt in range(_START_TRIES):
            # A chosen port may be taken before the server gets to it; a kept one is kept.
            if self.port == 0 or not is_free(self.port):
                self.port = choose_port(self.port, "--postgres-port")
            try:
                await self._launch(cluster)
            except EngramError as error:
                if error.code != "port_busy" or self._requested_port or attempt + 1 == _START_TRIES:
                    raise
                self.port = 0
            else:
                self._requested_port = self.port
                return

    async def _launch(self, cluster: Cluster) -> None:
        self._child = start_child(self._spec(cluster))
        try:
            await self._wait_until_ready(self._child, cluster.path)
        except BaseException:  # also a cancelled start leaves nothing running
            await self._child.stop(signal.SIGQUIT, 10)
            raise

    def _spec(self, cluster: Cluster) -> ChildSpec:
        settings = {**_SETTINGS, **_build_settings(), "port": str(self.port)}
        settings |= dict(_EPHEMERAL) if self._ephemeral else {}
        settings |= self._settings
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return ChildSpec(
            name=self.name,
            argv=(str(cluster.bin_dir / "postgres"), "-D", str(cluster.path), *options),
            log_path=self.data_dir / "logs" / "postgres.log",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            cwd=cluster.path,
            account=cluster.account,
            pass_fds=() if self._lock.fd is None else (self._lock.fd,),
            death_signal=self.death_signal,
        )

    async def _wait_until_ready(self, child: Child, data: Path) -> None:
        started, said = time.monotonic(), 0.0
        while postmaster.status(data, child.pid) != "ready":
            if not child.running():
                raise _start_failed(self, child)
            waited = time.monotonic() - started
            if waited > self._ready_timeout_s:
                raise _too_slow(self, waited)
            if waited - said > _SAY_EVERY_S:
                said = waited
                self._progress(f"The database is recovering ({waited:.0f} s).")
            await asyncio.sleep(_POLL_S)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _prepare(data_dir: Path) -> tuple[Path, Account | None]:
    """Make engram's data directory, passable for the server's user; return PGDATA and that user."""
    account = server_account(data_dir / "postgres")
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if account is not None:
            data_dir.chmod(data_dir.stat().st_mode | 0o011)
        if not os.access(data_dir, os.W_OK | os.X_OK):
            raise not_writable(data_dir)
    except OSError as error:
        raise not_writable(data_dir) from error
    data = data_dir.resolve() / "postgres"
    closed = closed_ancestor(data, account)
    if account is not None and closed is not None:
        raise UnavailableError(
            "data_dir_unreachable",
            f"PostgreSQL, never run as root, runs as '{account.name}', who may not enter {closed}.",
            cure="Choose a data directory outside it with --data, such as /var/lib/engram.",
        )
    return data, account


def _build_settings() -> dict[str, str]:
    """Return how many helpers an index build may have.

    With its own process that is at most half of the cores: searches and writes go on meanwhile. And
    none where shared memory is small (a container's 64 MB), where a parallel build fails.
    """
    try:
        free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - asked for its size, not written
    except OSError:
        free = _MIN_SHM_BYTES
    helpers = min(2, max(0, (os.cpu_count() or 1) // 2 - 1)) if free >= _MIN_SHM_BYTES else 0
    return {"max_parallel_maintenance_workers": str(helpers)}


def _start_failed(server: PostgresServer, child: Child) -> EngramError:
    said = child.log_text()
    if "could not bind" in said and "ddress already in use" in said:
        return port_busy(server.port, "--postgres-port")
    if "No space left on device" in said:
        return disk_full(server.data_dir)
    lines = [line for line in said.splitlines() if "FATAL" in line or "PANIC" in line]
    return UnavailableError(
        "postgres_failed",
        f"PostgreSQL did not start: {lines[-1] if lines else 'it left no message'}",
        cure=f"See {child.spec.log_path}.",
    )


def _too_slow(server: PostgresServer, waited_s: float) -> EngramError:
    return UnavailableError(
        "postgres_slow",
        f"PostgreSQL was still recovering {server.data_dir} after {waited_s:.0f} s.",
        cure="Start again: recovery goes on from where it is. See logs/postgres.log there.",
    )
