"""The whole broker topology as one table, and its reconciliation with a live server."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from engram import events
from engram.errors import UnavailableError

DAY_S = 86_400.0
_NO_ROOM = 10047  # JSStorageResourcesExceededErr
_NO_PEERS = 10005  # JSClusterNoPeersErr
# The servers of a young cluster answer before all of them have joined.
_JOINING_TRIES = 60
_JOINING_POLL_S = 0.5
GIB = 1024**3
# JetStream reserves as much of its disk for each stream.
STREAM_BYTES = 4 * GIB

# Commands carry content, so a command leaves the stream when it is acknowledged (work queue).
# Events only ring: they are kept a day for whoever was away. Both wait for the disk as the server
# is set to: persist_mode async would make events five times faster to publish, but a broker that is
# killed then loses bells it had acknowledged, and their memories wait for the next reconcile.
# `discard: new` everywhere: a full stream refuses what is new instead of dropping what is old.
# Readiness publishes here now and then: into the event stream, on a subject that no consumer wants.
CANARY_SUBJECT = events.work_subject("canary")
INGEST = StreamConfig(
    name="ENGRAM_INGEST",
    description="Ingest commands; the one stream that carries content.",
    subjects=[events.SUBJECT_INGEST_ALL],
    retention=RetentionPolicy.WORK_QUEUE,
    discard=DiscardPolicy.NEW,
    storage=StorageType.FILE,
    max_bytes=STREAM_BYTES,
    duplicate_window=120,
)
MEMORY = StreamConfig(
    name="ENGRAM_MEMORY",
    description="Memory events: ids and versions; what was done to migrations.",
    subjects=[events.SUBJECT_MEMORY_ALL, events.SUBJECT_MIGRATION_ALL, CANARY_SUBJECT],
    retention=RetentionPolicy.LIMITS,
    discard=DiscardPolicy.NEW,
    storage=StorageType.FILE,
    max_age=DAY_S,
    max_bytes=STREAM_BYTES,
    duplicate_window=120,
)
STREAMS: tuple[StreamConfig, ...] = (INGEST, MEMORY)

# A worker heartbeats (in_progress) well within this, so only a dead one's messages come again.
ACK_WAIT_S = 15.0
# Bells that one worker holds at once: more than a workspace's live share, or bells of one memory
# each could never show that it is above it; and what it can have under way at a slow provider.
BELLS_HELD = 256
# Room for sixteen workers.
MAX_ACK_PENDING = 16 * BELLS_HELD


@dataclass(frozen=True, slots=True)
class Durable:
    """One durable consumer and its stream."""

    stream: str
    config: ConsumerConfig

    @property
    def name(self) -> str:
        """The durable's name, unique in its stream."""
        return str(self.config.durable_name)


def _durable(stream: StreamConfig, name: str, subjects: list[str], description: str) -> Durable:
    config = ConsumerConfig(
        durable_name=name,
        description=description,
        filter_subjects=subjects,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        # Not compared: where a durable began cannot be changed (see `add_target_durable`).
        deliver_policy=None,
        # Never given up by the broker: what fails for good is written down in Postgres.
        max_deliver=-1,
        max_ack_pending=MAX_ACK_PENDING,
    )
    return Durable(str(stream.name), config)


INGEST_DURABLE = _durable(INGEST, "ingest", [events.SUBJECT_INGEST_ALL], "Writes commands.")


def embed_durable(space: int) -> Durable:
    """Return the live lane of a space: one durable each, so that no space waits for another."""
    subjects = [events.memory_subject(kind) for kind in ("created", "updated", "restored")]
    return _durable(MEMORY, f"embed-live-{space}", subjects, f"Live lane of space {space}.")


def durables(spaces: Sequence[int]) -> list[Durable]:
    """Return every durable there must be while these spaces are active."""
    return [INGEST_DURABLE, *(embed_durable(space) for space in spaces)]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was not there and had to be made, by name."""

    streams: tuple[str, ...]
    durables: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Something was missing."""
        return bool(self.streams or self.durables)


async def reconcile(
    jetstream: JetStreamContext,
    spaces: Sequence[int],
    *,
    replicas: int = 1,
    max_bytes: int = STREAM_BYTES,
) -> Reconciled:
    """Make streams and durables what the table says; existing messages are kept.

    Args:
        jetstream: to be changed.
        spaces: ids of those that take vectors.
        replicas: copies of each stream.
        max_bytes: of each stream, where it refuses what is new.

    Raises:
        UnavailableError: JetStream cannot be used, or holds another stream on our subjects.
    """
    try:
        streams = [
            str(config.name)
            for config in STREAMS
            if await _stream(jetstream, replace(config, num_replicas=replicas, max_bytes=max_bytes))
        ]
        made = [d.name for d in durables(spaces) if await _consumer(jetstream, d)]
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error
    return Reconciled(tuple(streams), tuple(made))


async def _stream(jetstream: JetStreamContext, config: StreamConfig) -> bool:
    try:
        found = await jetstream.stream_info(str(config.name))
    except nats.js.errors.NotFoundError:
        await _add(jetstream, config)
        return True
    if not _agrees(config, found.config):
        await jetstream.update_stream(config)
    return False


async def _add(jetstream: JetStreamContext, config: StreamConfig) -> None:
    for left in reversed(range(_JOINING_TRIES)):
        try:
            await jetstream.add_stream(config)
        except nats.js.errors.APIError as error:
            if error.err_code != _NO_PEERS or not left:
                raise
            await asyncio.sleep(_JOINING_POLL_S)
        else:
            return


async def _consumer(jetstream: JetStreamContext, durable: Durable) -> bool:
    try:
        found = await jetstream.consumer_info(durable.stream, durable.name)
    except nats.js.errors.NotFoundError:
        await jetstream.add_consumer(durable.stream, durable.config)
        return True
    if not _agrees(durable.config, found.config):
        kept = replace(durable.config, deliver_policy=found.config.deliver_policy)
        await jetstream.add_consumer(durable.stream, kept)
    return False


async def add_target_durable(jetstream: JetStreamContext, space: int) -> None:
    """Make the live lane's durable of a space that is added while there are memories.

    It begins with what is announced from now on: a day of older events names memories that the
    backfill embeds. One that an earlier space of this id left behind is replaced.

    Raises:
        UnavailableError: JetStream cannot be used.
    """
    durable = embed_durable(space)
    config = replace(durable.config, deliver_policy=DeliverPolicy.NEW)
    try:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await jetstream.delete_consumer(durable.stream, durable.name)
        await jetstream.add_consumer(durable.stream, config)
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error


def _agrees(wanted: StreamConfig | ConsumerConfig, found: object) -> bool:
    """Whether every field the table sets has that value on the server."""
    return all(
        value is None or getattr(found, name, None) == value for name, value in vars(wanted).items()
    )


def broker_unavailable(error: BaseException) -> UnavailableError:
    """Return the error a user sees when NATS cannot be used; never shows the URL."""
    if isinstance(error, nats.js.errors.APIError) and error.err_code == _NO_ROOM:
        return UnavailableError(
            "nats_no_room",
            "JetStream has no room to reserve for the streams.",
            cure="It reserves ENGRAM_STREAM_MAX_BYTES for each of two: free some disk (it takes "
            "three quarters of what is free), lower the setting, or raise its max_file_store.",
            retry_after_s=2,
        )
    if isinstance(error, nats.js.errors.APIError) and error.err_code == _NO_PEERS:
        return UnavailableError(
            "nats_too_few_servers",
            "Fewer NATS servers are up, or have room, than each stream shall have copies.",
            cure="Start the others, give them disk, or lower ENGRAM_REPLICAS.",
            retry_after_s=2,
        )
    return UnavailableError(
        "nats_unavailable",
        f"NATS JetStream cannot be used ({type(error).__name__}).",
        cure="Check ENGRAM_NATS_URL and that the server runs with JetStream (nats-server -js).",
        retry_after_s=2,
    )
