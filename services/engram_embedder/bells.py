"""The FastStream subscription of a lane: a bell is acknowledged when Postgres holds the outcome."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub

from engram import events, metrics, tracing
from engram.broker import topology
from engram.broker.connection import inbox_of
from engram.errors import MalformedError
from engram.serving.draining import started
from engram_embedder.lane import LiveLane, ids_of

log = structlog.get_logger(__name__)

SERVICE = "embedder"
# Each fetches one bell at a time and works on several. Fetching several at once is no gain: then
# nats-py's fetch waits for the batch to fill, and under load bells that had arrived lay there until
# its timeout of seconds. A subscriber for each bell would cost start-up half a second.
_SUBSCRIBERS = 8
_WORKERS = topology.BELLS_HELD // _SUBSCRIBERS
_FETCH_TIMEOUT_S = 10.0
_HEARTBEAT_S = topology.ACK_WAIT_S / 3
_COME_AGAIN_S = 2.0
_GRACE_S = 15.0


async def raw(message: NatsMessage) -> bytes:
    """Leave the body alone: the handler decodes it, so that a bad one is not lost silently."""
    return message.body


@contextlib.asynccontextmanager
async def ringing(nats_url: str, space: int, lane: LiveLane, label: str) -> AsyncIterator[None]:
    """Feed a lane from its durable while inside; handlers in flight finish on leaving."""
    broker = NatsBroker(
        nats_url.split(","),
        graceful_timeout=_GRACE_S,
        max_reconnect_attempts=-1,
        inbox_prefix=inbox_of(SERVICE),
        logger=None,
    )
    durable = topology.embed_durable(space)
    for _ in range(_SUBSCRIBERS):
        _subscribe(broker, durable, lane, label)
    async with started(broker):
        yield


def _subscribe(broker: NatsBroker, durable: topology.Durable, lane: LiveLane, label: str) -> None:
    @broker.subscriber(
        events.SUBJECT_MEMORY_ALL,
        stream=JStream(durable.stream, declare=False),
        durable=durable.name,
        pull_sub=PullSub(batch_size=1, timeout=_FETCH_TIMEOUT_S),
        inbox_prefix=f"{inbox_of(SERVICE)}.".encode(),
        max_workers=_WORKERS,
        ack_policy=AckPolicy.MANUAL,
        decoder=raw,
        title="embed",
    )
    async def on_bell(message: NatsMessage) -> None:
        await answer(message, lane, label)


async def answer(message: NatsMessage, lane: LiveLane, label: str) -> None:
    """Embed what a bell names, and acknowledge it."""
    try:
        event = events.decode_items_event(message.body)
    except MalformedError:
        # It says nothing that could be looked up; what it should have said, reconcile finds.
        log.error("bell unreadable", subject=message.raw_message.subject)
        await message.reject()
        return
    try:
        follows = [tracing.checked(event.traceparent)]
        with tracing.span("bell", follows=follows, memories=len(event.items)):
            trace = tracing.exemplar()
            async with _heartbeat(message):
                embedded = await lane.embed(ids_of(event.workspace, event.items))
    except Exception as error:  # noqa: BLE001 - it must come again
        log.warning("bell comes again", error=type(error).__name__)
        await message.nack(delay=_COME_AGAIN_S)
        return
    await message.ack()
    if not embedded:
        return
    rung_at = message.raw_message.metadata.timestamp.timestamp()
    metrics.FRESHNESS.labels(label, "live").observe(max(0.0, time.time() - rung_at), trace)


@contextlib.asynccontextmanager
async def _heartbeat(message: NatsMessage) -> AsyncIterator[None]:
    """Tell the broker that this message is being worked on, however long it takes."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await message.in_progress()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await beating
