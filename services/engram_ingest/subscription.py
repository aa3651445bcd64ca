"""The FastStream subscription to ingest commands: acknowledged after commit, never before."""

import structlog
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub

from engram import events, tracing
from engram.broker import topology
from engram.broker.connection import inbox_of
from engram.errors import EngramError
from engram.storage.connection import UNREACHABLE
from engram_ingest.lane import CommandLane

log = structlog.get_logger(__name__)

SERVICE = "ingest"
_COME_AGAIN_S = 2.0
_SUBSCRIBERS = 32
_FETCH_TIMEOUT_S = 10.0
_MOST_DELIVERIES = 10


async def raw(message: NatsMessage) -> bytes:
    """Leave the body alone: the strict decoder is the only one."""
    return message.body


def subscribe(broker: NatsBroker, lane: CommandLane) -> None:
    """Register the handlers of ingest commands on a broker.

    One command is fetched at a time by each of several subscribers: nats-py's fetch of a batch
    waits for it to fill. The lane puts commands back into the order of the stream.
    """
    for _ in range(_SUBSCRIBERS):
        _subscribe(broker, lane)


def _subscribe(broker: NatsBroker, lane: CommandLane) -> None:
    @broker.subscriber(
        events.SUBJECT_INGEST_ALL,
        stream=JStream(str(topology.INGEST.name), declare=False),
        durable=topology.INGEST_DURABLE.name,
        pull_sub=PullSub(batch_size=1, timeout=_FETCH_TIMEOUT_S),
        inbox_prefix=f"{inbox_of(SERVICE)}.".encode(),
        ack_policy=AckPolicy.MANUAL,
        decoder=raw,
        title="ingest",
    )
    async def on_command(message: NatsMessage) -> None:
        sent = message.raw_message
        try:
            traceparent = tracing.checked((sent.headers or {}).get(tracing.HEADER))
            with tracing.span("command", follows=[traceparent]):
                await lane.write(sent.subject, message.body, sent.metadata.sequence.stream)
        except (EngramError, *UNREACHABLE) as error:
            log.warning("command comes again", error=type(error).__name__)
            await message.nack(delay=_COME_AGAIN_S)
        except Exception as error:  # a message must never be stuck without a word
            log.error("command failed", exc_info=error)
            await _give_up_in_time(message, lane)
        else:
            await message.ack()


async def _give_up_in_time(message: NatsMessage, lane: CommandLane) -> None:
    """Let a message come again a few times, then put it aside."""
    if message.raw_message.metadata.num_delivered < _MOST_DELIVERIES:
        await message.nack(delay=_COME_AGAIN_S)
        return
    try:
        await lane.give_up(message.raw_message.subject, message.body)
    except EngramError:
        await message.nack(delay=_COME_AGAIN_S)
    else:
        await message.ack()
