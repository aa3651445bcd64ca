"""One service process: connect, check, run its duties until a signal, drain, close."""

import asyncio
import contextlib
import gc
import platform
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeVar

import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from engram import logs, metrics
from engram.broker.connection import connect
from engram.broker.topology import reconcile
from engram.errors import EngramError, UnavailableError
from engram.serving import counters
from engram.serving.checks import broker_check, refuse_unbound, store_check
from engram.serving.operations import Check, operations_app
from engram.serving.pipeline import Pipeline
from engram.serving.relay import Relay
from engram.serving.spaces import SpaceRegistry
from engram.serving.telemetry import traced
from engram.serving.watchdog import Watchdog
from engram.serving.web import listen, serve
from engram.settings import Settings
from engram.storage import standing
from engram.storage.connection import Pool, open_pool
from engram.storage.migrate import expected_version

log = structlog.get_logger(__name__)

T = TypeVar("T")

_PATIENCE_S = 15.0
_RETRY_S = 0.25
_POOL_SIZE = 8
# Services that set nothing on a connection beyond their transaction.
_SETTING_NOTHING = frozenset({"embedder"})


@dataclass(slots=True)
class Service:
    """What every service has at hand while it runs.

    Attributes:
        name: of the service.
        settings: as read at the start.
        pool: of the worker role.
        broker: the connection to NATS.
        jetstream: on that connection, with room for many publishes in flight.
        spaces: the spaces and their providers.
        relay: publishes what this process wrote into the outbox.
        checks: what /readyz asks.
    """

    name: str
    settings: Settings
    pool: Pool
    broker: Client
    jetstream: JetStreamContext
    spaces: SpaceRegistry
    relay: Relay
    checks: list[Check] = field(default_factory=list)


Duties = Callable[[Service], contextlib.AbstractAsyncContextManager[None]]


async def run_service(name: str, settings: Settings, duties: Duties) -> None:
    """Run a service until SIGINT or SIGTERM.

    Args:
        name: of the service, in logs and health.
        settings: where Postgres and NATS are.
        duties: a context that starts what the service does on entering, and on leaving stops
            taking work and finishes what is in flight.

    Raises:
        EngramError: Postgres, NATS or a port cannot be used, or the store is not bootstrapped.
    """
    logs.configure(name, settings.log_level, settings.log_format)
    counters.begin()
    metrics.BUILD.labels(name, version("engram"), platform.python_version()).set(1)
    stop = _stop_signal()
    _calm_collector()
    async with traced(name, settings.otlp_url), connected(name, settings) as service:
        ops = listen(settings.ops_host, settings.ops_port, "ENGRAM_OPS_PORT")
        watchdog = Watchdog(
            service.pool,
            service.jetstream,
            service.spaces,
            settings.replicas,
            lambda: service.broker.stats["reconnects"],
            settings.stream_max_bytes,
        )
        service.checks[:0] = [*standard_checks(service), watchdog.check]
        app = operations_app(
            name, service.checks, Pipeline(service.pool, service.jetstream).picture
        )
        async with background(service.relay.run(), service.spaces.run(), watchdog.run()):
            async with duties(service):
                async with background(serve(app, ops)):
                    log.info("ready", ops_port=ops.getsockname()[1])
                    await stop.wait()
                    service.spaces.drain()
                log.info("draining")
            await _last_lines(service.relay)
    log.info("stopped")


def _calm_collector() -> None:
    """Collect cycles seldom: batches make many objects and no cycles, and modules never die.

    Measured on the import path, Python's default (every 700 allocations) costs a sixth of the
    CPU of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def connected(name: str, settings: Settings) -> AsyncIterator[Service]:
    """Connect to everything a service needs, topology reconciled, and close it on leaving.

    Raises:
        EngramError: Postgres or NATS cannot be used, or the store is not bootstrapped.
    """
    database_url, nats_url = settings.require_database(), settings.require_nats()
    pool = await _patiently(
        lambda: open_pool(
            database_url,
            "engram_worker",
            size=_POOL_SIZE,
            name=name,
            waited=metrics.POOL_WAIT.labels("worker").observe,
            resets=name not in _SETTING_NOTHING,
        )
    )
    async with pool:
        spaces = SpaceRegistry(pool, settings)
        await _refuse_other_schema(pool)
        await spaces.refresh()
        spaces.warn_of_other_choice()
        broker = await _patiently(lambda: connect(nats_url, name))
        jetstream = broker.jetstream(publish_async_max_pending=2_000)
        try:
            await _patiently(
                lambda: reconcile(
                    jetstream,
                    spaces.active,
                    replicas=settings.replicas,
                    max_bytes=settings.stream_max_bytes,
                )
            )
            relay = Relay(pool, jetstream)
            yield Service(name, settings, pool, broker, jetstream, spaces, relay)
        finally:
            await spaces.close()
            await broker.close()


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try for a while: in a cluster everything starts at the same time."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        try:
            return await attempt()
        except UnavailableError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            log.warning("waiting", code=error.code, detail=error.detail)
            await asyncio.sleep(_RETRY_S)


async def _refuse_other_schema(pool: Pool) -> None:
    async with pool.acquire() as connection:
        found = await standing.look(connection)
    have = found.schema_version
    if have != expected_version():
        raise UnavailableError(
            "wrong_schema",
            f"The database has schema version {have}; this engram needs {expected_version()}.",
            cure="Run `engram bootstrap`, with the same version of engram everywhere.",
        )
    refuse_unbound(found)


@contextlib.asynccontextmanager
async def background(*duties: Awaitable[None]) -> AsyncIterator[None]:
    """Run duties while inside; one that fails ends the service instead of dying silently."""
    tasks = [asyncio.ensure_future(duty) for duty in duties]
    owner = asyncio.current_task()
    failed: list[BaseException] = []

    def watch(task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("duty failed", exc_info=error)
            failed.append(error)
            if owner:
                owner.cancel()

    for task in tasks:
        task.add_done_callback(watch)
    try:
        yield
    except asyncio.CancelledError:
        if failed:
            raise EngramError("duty_failed", "A duty of the service failed.") from failed[0]
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _last_lines(relay: Relay) -> None:
    """Publish what draining has just announced; whatever stays is another relay's."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(2):
            while await relay.publish_some():
                pass


def standard_checks(service: Service) -> list[Check]:
    """Return what readiness of every service asks; no provider: its outage stops no service."""
    return [
        store_check(service.pool, service.spaces),
        broker_check(service.broker, service.jetstream, service.spaces),
    ]
