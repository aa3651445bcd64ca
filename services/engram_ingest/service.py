"""The ingest service: HTTP, NATS commands, search, and the outbox relay."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from faststream.nats import NatsBroker

from engram import metrics
from engram.broker.connection import inbox_of
from engram.serving.advisories import Advisories
from engram.serving.draining import started
from engram.serving.process import Service, background, run_service
from engram.serving.web import listen, serve
from engram.settings import Settings
from engram.storage.connection import open_pool
from engram_ingest.accesses import Accesses
from engram_ingest.admission import Admission
from engram_ingest.app import build_app
from engram_ingest.authentication import Authenticator
from engram_ingest.committer import Committer
from engram_ingest.doors import Doors
from engram_ingest.import_runner import ImportRunner
from engram_ingest.lane import CommandLane
from engram_ingest.search import Searcher
from engram_ingest.subscription import SERVICE, subscribe

_POOL_SIZE = 16
_GRACE_S = 15.0


async def run(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        EngramError: it cannot start; code, detail and cure say why.
    """
    await run_service(SERVICE, settings, _duties)


@contextlib.asynccontextmanager
async def _duties(service: Service) -> AsyncIterator[None]:
    settings = service.settings
    bound = listen(settings.host, settings.port, "ENGRAM_PORT")
    advisories = Advisories(service.pool, service.broker)
    # Left in reverse: the doors close first, and what they let in is still committed.
    async with (
        open_doors(service) as (app, lane),
        _commands(settings, lane),
        background(serve(app, bound), service.spaces.warm(), advisories.run()),
    ):
        yield


@contextlib.asynccontextmanager
async def open_doors(service: Service) -> AsyncIterator[tuple[FastAPI, CommandLane]]:
    """Start what stands behind the doors and yield the HTTP application and the command lane."""
    settings = service.settings
    database_url = settings.require_database()
    waited = metrics.POOL_WAIT.labels("api").observe
    async with await open_pool(
        database_url, "engram_api", size=_POOL_SIZE, name="ingest api", waited=waited
    ) as pool:
        admission = Admission(settings.queue_limit, settings.outbox_limit)
        committer = Committer(pool, admission, service.relay.wake)
        runner = ImportRunner(
            pool, service.pool, admission, service.relay.wake, settings.import_max_items
        )
        doors = Doors(service, pool, committer, Authenticator(service.pool), runner)
        accesses = Accesses(pool, settings.access_flush_s)
        searcher = Searcher(pool, service.spaces, settings.query_timeout_s, accesses)
        lane = CommandLane(doors)
        async with (
            accesses.counting(),
            background(committer.run(), admission.run(service.pool), lane.run(), runner.run()),
        ):
            yield build_app(doors, searcher), lane


@contextlib.asynccontextmanager
async def _commands(settings: Settings, lane: CommandLane) -> AsyncIterator[None]:
    broker = NatsBroker(
        settings.require_nats().split(","),
        graceful_timeout=_GRACE_S,
        max_reconnect_attempts=-1,
        inbox_prefix=inbox_of(SERVICE),
        logger=None,
    )
    subscribe(broker, lane)
    async with started(broker):
        yield
