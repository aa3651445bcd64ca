"""Notices that messages have gone from the event stream before every lane was done with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext

from engram.broker.topology import MEMORY, broker_unavailable, embed_durable

Loss = Literal["made_anew", "removed", "purged"]


@dataclass(frozen=True, slots=True)
class Picture:
    """The event stream at one moment.

    Attributes:
        created: when the stream was made.
        first: sequence of its oldest message; one above ``last`` while it is empty.
        last: sequence of its newest message, there or not.
        gaps: messages deleted between the two.
        done: up to where each durable owed nothing, by the durable's name.
    """

    created: datetime | None
    first: int
    last: int
    gaps: int
    done: Mapping[str, int]


async def look(jetstream: JetStreamContext, spaces: Sequence[int]) -> Picture:
    """Return what the event stream and its lanes look like now.

    Raises:
        UnavailableError: JetStream cannot be used, or a stream or durable is missing.
    """
    try:
        # The stream first: what a durable says afterwards covers at least what the stream held.
        stream = await jetstream.stream_info(str(MEMORY.name))
        state = stream.state
        done = {}
        for space in spaces:
            durable = embed_durable(space)
            info = await jetstream.consumer_info(durable.stream, durable.name)
            if info.num_pending or info.num_ack_pending:
                done[durable.name] = info.ack_floor.stream_seq if info.ack_floor else 0
            else:
                done[durable.name] = state.last_seq
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error
    first = state.first_seq if state.messages else state.last_seq + 1
    return Picture(stream.created, first, state.last_seq, state.num_deleted or 0, done)


def lost(before: Picture, now: Picture) -> Loss | None:
    """Say what happened to the stream between two looks, None when nothing was lost.

    Age takes messages from the front, a day after they came, and never leaves gaps. So a front
    that passed a durable's mark was purged, or the durable is a day behind; both lose bells.
    """
    if now.created != before.created or now.last < before.last:
        return "made_anew"
    if now.gaps > before.gaps:
        return "removed"
    if any(now.first > done + 1 for done in before.done.values()):
        return "purged"
    return None


def onward(before: Picture, now: Picture) -> Picture:
    """Return ``now`` with no durable's mark below where it was: what is done stays done.

    An acknowledged floor stands still while nothing the durable wants arrives, and age may pass it.
    """
    done = {name: max(seq, before.done.get(name, 0)) for name, seq in now.done.items()}
    return Picture(now.created, now.first, now.last, now.gaps, done)
