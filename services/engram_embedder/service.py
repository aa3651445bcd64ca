"""The embedder service: the lanes of each active space, which come and go with the spaces."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from engram.errors import EngramError
from engram.serving.process import Service, background, run_service
from engram.settings import Settings
from engram_embedder.bells import ringing
from engram_embedder.bulk import Bulk
from engram_embedder.due import Retries
from engram_embedder.embedding import Embedding
from engram_embedder.gate import Gates
from engram_embedder.lane import LiveLane

log = structlog.get_logger(__name__)

_LOOK_S = 1.0


async def run(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        EngramError: it cannot start; code, detail and cure say why.
    """
    await run_service("embedder", settings, _duties)


@contextlib.asynccontextmanager
async def _duties(service: Service) -> AsyncIterator[None]:
    lanes = _Lanes(service)
    try:
        await lanes.adjust()
        async with background(lanes.run()):
            yield
    finally:
        await lanes.close()


class _Lanes:
    """The running lanes by space."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gates = Gates()
        self._running: dict[int, contextlib.AsyncExitStack] = {}
        # The model each lane was started with.
        self._models: dict[int, int] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.adjust()

    async def adjust(self) -> None:
        """Start lanes of new spaces, stop those of retired ones, and follow a change of model."""
        spaces = self._service.spaces
        active = spaces.active
        for space in list(self._running):
            if space not in active or spaces.model_number(space) != self._models[space]:
                await _closed(self._running.pop(space))
        for space in active:
            if space not in self._running:
                await self._start(space)

    async def _start(self, space: int) -> None:
        service, label = self._service, self._service.spaces.key(space)
        model = service.spaces.model_number(space)
        try:
            provider = service.spaces.provider(space)
        except EngramError as error:
            # A missing key of one space must not stop the others; it is looked at again.
            log.error("lane cannot start", space=label, code=error.code, cure=error.cure)
            return
        gate = self._gates.of(provider.spec.provider, provider.spec.model)
        embedding = Embedding(service, space, provider, gate)
        bulk = Bulk(service, embedding)
        live = LiveLane(embedding, bulk, service.settings.live_share)
        nats_url = service.settings.require_nats()
        async with contextlib.AsyncExitStack() as stack:
            duties = (bulk.run(), Retries(service, embedding).run())
            await stack.enter_async_context(background(live.run(), *duties))
            await stack.enter_async_context(ringing(nats_url, space, live, label))
            self._running[space] = stack.pop_all()
        self._models[space] = model
        log.info("lane started", space=label, model=provider.spec.model)

    async def close(self) -> None:
        for stack in self._running.values():
            await stack.aclose()


async def _closed(stack: contextlib.AsyncExitStack) -> None:
    """Close a lane to its end, also when the service is told to stop meanwhile."""
    closing = asyncio.ensure_future(stack.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise
