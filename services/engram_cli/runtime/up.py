"""What ``engram up`` does: data directory, servers, bootstrap, services, and an orderly end."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .datadir import (
    Credentials,
    default_data_dir,
    owned_data_dir,
    read_credentials,
    temporary_data_dir,
    write_credentials,
)
from .forking import ForkServer, forking
from .nats import NatsServer
from .ports import HOST, Ports
from .postgres import PostgresServer
from .service import ServiceProcess, ServiceSpec
from .supervisor import Supervisor
from .warden import Warden


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything of one run listens; what services are configured with.

    Attributes:
        http_port: of the API.
        ops_port: of health and metrics of the first service.
        database_url: of Postgres.
        nats_url: of NATS.
        data_dir: where everything is stored.
        ports: where a service's own port is kept for it.
    """

    http_port: int
    ops_port: int
    database_url: str
    nats_url: str
    data_dir: Path
    ports: Ports = field(default_factory=Ports)

    @property
    def url(self) -> str:
        """Address of the HTTP API."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def ops_url(self) -> str:
        """Address of health and metrics."""
        return f"http://{HOST}:{self.ops_port}"

    def env(self) -> dict[str, str]:
        """Return the settings every service needs."""
        return {
            "ENGRAM_DATABASE_URL": self.database_url,
            "ENGRAM_NATS_URL": self.nats_url,
            "ENGRAM_DATA_DIR": str(self.data_dir),
        }


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What one run is asked for.

    Attributes:
        services: what to run, given where everything listens; their env gets the endpoints' too.
        data_dir: the data directory; ``None`` for the default one.
        ephemeral: everything in a temporary directory, without waiting for the disk.
        http_port: port of the API; 0 for a free one.
        ops_port: port of health and metrics; 0 for a free one.
        postgres_port: port of PostgreSQL; 0 for a free one.
        nats_port: port of NATS; 0 for a free one.
        forks: services are forked from a process that has imported them, where that is possible.
    """

    services: Callable[[Endpoints], Sequence[ServiceSpec]]
    data_dir: Path | None = None
    ephemeral: bool = False
    http_port: int = 8080
    ops_port: int = 8081
    postgres_port: int = 0
    nats_port: int = 0
    forks: bool = False


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """What making schema, roles, streams and a first key gave.

    Attributes:
        api_key: the key just made, or ``None`` when there was one already.
    """

    api_key: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything runs: where, and with which key.

    Attributes:
        credentials: what was written to ``credentials.json``.
        ephemeral: whether all of it goes when the run ends.
    """

    credentials: Credentials
    ephemeral: bool


Bootstrap = Callable[[str, str, bool], Awaitable[BootstrapResult]]


async def run_up(
    options: UpOptions,
    bootstrap: Bootstrap,
    announce: Callable[[Ready], None],
    progress: Callable[[str], None] = lambda _: None,
) -> signal.Signals:
    """Run everything until SIGINT, SIGTERM or SIGHUP; return which. Call it in the main thread.

    Args:
        options: what to run and where.
        bootstrap: called with (database_url, nats_url, whether a key is needed) when both
            servers answer.
        announce: called once, when every service is ready.
        progress: told what takes long, in sentences for a person.

    Raises:
        EngramError: something could not be started; it says what and how to cure it.
    """
    with _signals() as stopped, _data_dir(options) as data_dir:
        warden = Warden()
        warden.start()
        if options.ephemeral:
            warden.remove_folder(data_dir)
        logs = data_dir / "logs"
        with forking(logs, start=options.forks) as fork_server:
            run = _Run(options, data_dir, Ports(), Supervisor(logs, warden), fork_server)
            try:
                work = asyncio.create_task(run.start(bootstrap, progress))
                if await _finished(work, stopped):
                    announce(work.result())
                return await stopped
            finally:
                await run.supervisor.stop()
                run.ports.release()
                warden.close()


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run has at hand while it starts."""

    options: UpOptions
    data_dir: Path
    ports: Ports
    supervisor: Supervisor
    fork_server: ForkServer

    async def start(self, bootstrap: Bootstrap, progress: Callable[[str], None]) -> Ready:
        """Start servers, then what they need, then services; return when all are ready."""
        options, data_dir = self.options, self.data_dir
        http_port = self.ports.keep(options.http_port, "--port")
        ops_port = self.ports.keep(options.ops_port, "--ops-port")
        postgres = PostgresServer(
            data_dir, options.postgres_port, ephemeral=options.ephemeral, progress=progress
        )
        nats = NatsServer(data_dir, options.nats_port, ephemeral=options.ephemeral)
        await asyncio.gather(self.supervisor.start(postgres), self.supervisor.start(nats))
        # A data directory whose credentials are lost gets a new key: the old one was shown once.
        known = read_credentials(data_dir)
        needs_key = known is None or not known.api_key
        made = await bootstrap(postgres.database_url, nats.nats_url, needs_key)
        endpoints = Endpoints(
            http_port, ops_port, postgres.database_url, nats.nats_url, data_dir, self.ports
        )
        credentials = _credentials(endpoints, made)
        services = self._services(endpoints)
        await self.supervisor.start(*services)
        await asyncio.gather(*(service.ready() for service in services))
        write_credentials(data_dir, credentials)
        return Ready(credentials, options.ephemeral)

    def _services(self, endpoints: Endpoints) -> list[ServiceProcess]:
        log_dir, specs = self.data_dir / "logs", self.options.services(endpoints)
        return [
            ServiceProcess(
                replace(spec, env={**endpoints.env(), **spec.env}), log_dir, self.fork_server
            )
            for spec in specs
        ]


def _credentials(endpoints: Endpoints, made: BootstrapResult) -> Credentials:
    before = read_credentials(endpoints.data_dir)
    return Credentials(
        url=endpoints.url,
        api_key=made.api_key or (before.api_key if before else ""),
        nats_url=endpoints.nats_url,
        database_url=endpoints.database_url,
        data_dir=str(endpoints.data_dir),
        ops_url=endpoints.ops_url,
    )


def _data_dir(options: UpOptions) -> contextlib.AbstractContextManager[Path]:
    if options.ephemeral:
        return temporary_data_dir()
    chosen = default_data_dir() if options.data_dir is None else options.data_dir
    return owned_data_dir(chosen.expanduser().absolute())


async def _finished(work: "asyncio.Task[Ready]", stopped: "asyncio.Future[signal.Signals]") -> bool:
    """Wait for the start to finish or for a signal; on a signal the start is given up."""
    waited: list[asyncio.Future[Any]] = [work, stopped]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        return True
    work.cancel()
    await asyncio.wait([work])
    return False


@contextlib.contextmanager
def _signals() -> Iterator["asyncio.Future[signal.Signals]"]:
    """Turn the first request to stop into a result; stopping is bounded, more change nothing."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def note(received: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(received)

    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
        caught.append(signal.SIGHUP)
    for one in caught:
        loop.add_signal_handler(one, note, one)
    try:
        yield stopped
    finally:
        for one in caught:
            loop.remove_signal_handler(one)
