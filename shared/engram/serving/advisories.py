"""Listens to what JetStream gives up on: a net under the retries, which should never catch any."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from engram import metrics
from engram.broker.topology import STREAMS
from engram.storage import sweeps
from engram.storage.connection import UNREACHABLE, Pool

log = structlog.get_logger(__name__)

# Subjects: https://docs.nats.io/running-a-nats-service/nats_admin/monitoring/monitoring_jetstream
_PREFIX = "$JS.EVENT.ADVISORY.CONSUMER"
_KINDS = {"MAX_DELIVERIES": "max_deliveries", "MSG_TERMINATED": "terminated"}
# Each advisory reaches one replica of the service.
_QUEUE = "engram-advisories"
_GATHER_S = 0.5
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _GivenUp:
    kind: str
    stream: str
    consumer: str


class Advisories:
    """Counts and reports messages no consumer will get again, and makes reconcile due.

    The consumers of the topology never give a message up, so this finds what somebody changed.
    Nothing of an event is lost by it: reconcile finds in Postgres what the event was about. A
    command that is given up stays in its stream or is gone with it, and is named in the log.

    Args:
        pool: of the worker role.
        broker: the connection to NATS.
    """

    def __init__(self, pool: Pool, broker: Client) -> None:
        self._pool = pool
        self._broker = broker
        self._seen: Counter[_GivenUp] = Counter()
        self._last_sequence: dict[_GivenUp, int] = {}
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            for stream in STREAMS:
                for event in _KINDS:
                    subject = f"{_PREFIX}.{event}.{stream.name}.>"
                    found = await self._broker.subscribe(subject, queue=_QUEUE, cb=self._note)
                    stack.push_async_callback(_unsubscribe, found)
            while True:
                await self._arrived.wait()
                await asyncio.sleep(_GATHER_S)
                await self._report()

    async def _note(self, message: Msg) -> None:
        event = message.subject.removeprefix(f"{_PREFIX}.").split(".")
        given_up = _GivenUp(_KINDS.get(event[0], event[0]), event[1], ".".join(event[2:]))
        self._seen[given_up] += 1
        self._last_sequence[given_up] = _sequence(message.data)
        metrics.GIVEN_UP.labels(given_up.kind, given_up.stream).inc()
        self._arrived.set()

    async def _report(self) -> None:
        """Say it once for many, and keep it in mind until Postgres knows of it."""
        self._arrived.clear()
        for given_up, messages in self._seen.items():
            log.error(
                "messages were given up by the broker",
                kind=given_up.kind,
                stream=given_up.stream,
                consumer=given_up.consumer,
                messages=messages,
                last_sequence=self._last_sequence[given_up],
            )
        self._seen.clear()
        self._last_sequence.clear()
        try:
            async with self._pool.acquire() as connection:
                await sweeps.due_now(connection, "reconcile")
        except UNREACHABLE as error:
            log.warning("reconcile not made due", error=type(error).__name__)
            await asyncio.sleep(_RETRY_S)
            self._arrived.set()


def _sequence(data: bytes) -> int:
    """Return the stream's sequence number an advisory names, 0 for none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return 0
    found = value.get("stream_seq") if isinstance(value, dict) else None
    return found if isinstance(found, int) else 0


async def _unsubscribe(subscription: Subscription) -> None:
    with contextlib.suppress(nats.errors.Error):
        await subscription.unsubscribe()
