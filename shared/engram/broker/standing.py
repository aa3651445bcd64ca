"""How streams and durables stand: what waits in them, for how long, and how full they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.js import JetStreamContext

from engram.broker.topology import INGEST, STREAMS, Durable, broker_unavailable

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class StreamStanding:
    """One stream.

    Attributes:
        messages: kept in it, done or not.
        bytes: what they take.
        limit_bytes: where it refuses what is new.
        oldest_s: age of its oldest message, 0 while it is empty.
    """

    name: str
    messages: int
    bytes: int
    limit_bytes: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """One durable.

    Attributes:
        pending: messages not yet delivered.
        ack_pending: delivered, not acknowledged.
        redelivered: of these, delivered more than once.
        oldest_s: age of the oldest that is not acknowledged, 0 without any.
    """

    durable: str
    pending: int
    ack_pending: int
    redelivered: int
    oldest_s: float


async def streams(broker: Client) -> dict[str, StreamStanding]:
    """Return every stream of ours, by name.

    Raises:
        UnavailableError: JetStream cannot be used, or a stream is missing.
    """
    try:
        return {str(config.name): await _stream(broker, str(config.name)) for config in STREAMS}
    except (nats.errors.Error, TimeoutError, KeyError) as error:
        raise broker_unavailable(error) from error


async def _stream(broker: Client, name: str) -> StreamStanding:
    # Asked by hand: the client's own answer leaves out when the first message came.
    answer = await broker.request(f"$JS.API.STREAM.INFO.{name}", timeout=_TIMEOUT_S)
    info = orjson.loads(answer.data)
    state = info["state"]
    came = datetime.fromisoformat(state["first_ts"]) if state["messages"] else None
    limit = info["config"]["max_bytes"]
    return StreamStanding(name, state["messages"], state["bytes"], limit, _age_s(came))


async def lanes(
    jetstream: JetStreamContext, durables: Sequence[Durable], known: dict[str, StreamStanding]
) -> list[LaneStanding]:
    """Return how each durable stands.

    Args:
        jetstream: to ask.
        durables: of the table.
        known: what `streams` returned just before.

    Raises:
        UnavailableError: JetStream cannot be used, or a durable is missing.
    """
    try:
        return [await _lane(jetstream, durable, known) for durable in durables]
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error


async def _lane(
    jetstream: JetStreamContext, durable: Durable, known: dict[str, StreamStanding]
) -> LaneStanding:
    info = await jetstream.consumer_info(durable.stream, durable.name)
    pending, ack_pending = info.num_pending or 0, info.num_ack_pending or 0
    oldest_s = 0.0
    if durable.stream == INGEST.name:
        # A work queue keeps what is not done and nothing else. No command is read to know its age.
        oldest_s = known[durable.stream].oldest_s
    elif pending or ack_pending:
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        oldest_s = _age_s(await _next_after(jetstream, durable, floor))
    return LaneStanding(durable.name, pending, ack_pending, info.num_redelivered or 0, oldest_s)


async def _next_after(jetstream: JetStreamContext, durable: Durable, floor: int) -> datetime | None:
    """Return when the first message above the acknowledged floor came; it names ids only."""
    came = []
    for subject in durable.config.filter_subjects or ():
        try:
            message = await jetstream.get_msg(
                durable.stream, seq=floor + 1, subject=subject, next=True
            )
        except nats.js.errors.NotFoundError:
            continue
        if message.time is not None:
            came.append(message.time)
    return min(came, default=None)


def _age_s(came: datetime | None) -> float:
    return 0.0 if came is None else max(0.0, (datetime.now(UTC) - came).total_seconds())
