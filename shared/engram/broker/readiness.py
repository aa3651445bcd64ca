"""Whether the broker can do what is needed of it: streams and durables are there, and it stores."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.js import JetStreamContext

from engram.broker.topology import (
    CANARY_SUBJECT,
    MEMORY,
    STREAMS,
    Durable,
    broker_unavailable,
    durables,
)

_TIMEOUT_S = 2.0
# A message this young shows that the stream stores, so all processes together send one at a time.
QUIET_S = 15.0


@dataclass(frozen=True, slots=True)
class BrokerState:
    """One look at the broker.

    Attributes:
        missing: names of streams and durables that are not there.
        leaderless: names of streams that no server of the cluster leads.
        filling: part of its bytes that each stream uses, 0 to 1, by name.
        quiet_s: seconds since the event stream stored its last message.
    """

    missing: tuple[str, ...] = ()
    leaderless: tuple[str, ...] = ()
    filling: tuple[tuple[str, float], ...] = ()
    quiet_s: float = 0.0


async def look(broker: Client, jetstream: JetStreamContext, spaces: Sequence[int]) -> BrokerState:
    """Return how streams and durables stand now; nothing is changed.

    Raises:
        UnavailableError: JetStream does not answer.
    """
    wanted = durables(spaces)
    try:
        infos = await asyncio.gather(*(_info(broker, str(stream.name)) for stream in STREAMS))
        there = await asyncio.gather(*(_is_there(jetstream, durable) for durable in wanted))
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error
    named = {str(stream.name): info for stream, info in zip(STREAMS, infos, strict=True)}
    missing = [name for name, info in named.items() if info is None]
    missing += [one.name for one, found in zip(wanted, there, strict=True) if not found]
    found = {name: info for name, info in named.items() if info is not None}
    return BrokerState(
        tuple(missing),
        tuple(name for name, info in found.items() if _leaderless(info)),
        tuple((name, _filled(info)) for name, info in found.items()),
        _quiet_s(found.get(str(MEMORY.name))),
    )


async def send_canary(jetstream: JetStreamContext) -> None:
    """Have the event stream store one small message that no consumer wants.

    It must go into that very stream. Measured with a full disk: a stream whose write has failed
    refuses everything until the server is restarted, while streams beside it go on, and so does
    whatever is refused before it is written (such as an expected sequence that cannot be).

    Raises:
        UnavailableError: it was not stored.
    """
    try:
        await jetstream.publish(CANARY_SUBJECT, b"", timeout=_TIMEOUT_S)
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error


async def _info(broker: Client, stream: str) -> dict[str, Any] | None:
    """Return what the server says of a stream, None when it is not there.

    Asked without nats-py's own method, which leaves out when the last message came.
    """
    answer = await broker.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=_TIMEOUT_S)
    info: dict[str, Any] = orjson.loads(answer.data)
    error = info.get("error")
    if error is None:
        return info
    if error.get("code") == 404:
        return None
    raise nats.js.errors.APIError(**error)


async def _is_there(jetstream: JetStreamContext, durable: Durable) -> bool:
    try:
        await jetstream.consumer_info(durable.stream, durable.name, timeout=_TIMEOUT_S)
    except nats.js.errors.NotFoundError:
        return False
    return True


def _leaderless(info: dict[str, Any]) -> bool:
    cluster = info.get("cluster") or {}
    return bool(cluster) and not cluster.get("leader")


def _filled(info: dict[str, Any]) -> float:
    most = info["config"].get("max_bytes", -1)
    return float(info["state"]["bytes"] / most) if most > 0 else 0.0


def _quiet_s(info: dict[str, Any] | None) -> float:
    """Return the seconds since the last message, by the clock of the server itself."""
    if info is None:
        return 0.0  # that it is missing is said already
    now = datetime.fromisoformat(info["ts"]) if "ts" in info else datetime.now(UTC)
    return (now - datetime.fromisoformat(info["state"]["last_ts"])).total_seconds()
