"""``Publisher``: sends memories over NATS JetStream, each once however often it is tried."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any, Final, Self

import nats.errors
import nats.js.errors
from nats.aio.client import Client as NatsConnection
from nats.js.api import PubAck

from engram import tracing
from engram.backoff import Backoff
from engram.command_batches import Item, split
from engram.errors import (
    BusyError,
    EngramError,
    ForbiddenError,
    InvalidError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
)
from engram.events import CommandKind, command_envelope, ingest_subject

# Room for the CloudEvents attributes and the NATS headers, which count as payload too.
ENVELOPE_BYTES: Final = 4096
# A stream forgets message ids after 120 s; a later try could store the command a second time.
MAX_GIVE_UP_AFTER_S: Final = 100.0
_STREAM_FULL: Final = 10077  # JSStreamStoreFailedErr: at its limit, or its disk is
_TRIES: Final = Backoff(attempts=1_000_000, base_s=0.1, cap_s=4.0)  # bounded by time instead

_log = logging.getLogger("engram.publisher")


@dataclass(frozen=True, slots=True)
class Command:
    """One message: its id is the ``Nats-Msg-Id`` of every try."""

    event_id: str
    payload: bytes


class Publisher:
    """Publishes commands of one workspace; use it as ``async with Publisher(...) as publisher``.

    A method returns when JetStream has acknowledged every message: the commands are on the
    stream, and become memories within moments. Failed tries are repeated under the same message
    id, which the stream recognises, until ``give_up_after_s`` has passed.

    Args:
        nats_url: default ``ENGRAM_NATS_URL``.
        workspace: workspace id, as ``engram status`` shows it.
        source: who publishes, the CloudEvents ``source``.
        timeout_s: longest wait for one acknowledgement, in seconds.
        give_up_after_s: longest time for one command over all tries, at most 100 seconds.
        in_flight: how many messages of one ``create`` wait for acknowledgement together.
        connect_options: further options of ``nats.connect``, such as ``user_credentials``.

    Raises:
        UsageError: no server address, or a time that the stream's memory of ids does not cover.
        InvalidError: the workspace is no id.
    """

    def __init__(
        self,
        nats_url: str | None,
        workspace: str,
        *,
        source: str = "engram-publisher",
        timeout_s: float = 5.0,
        give_up_after_s: float = 60.0,
        in_flight: int = 8,
        connect_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._url = nats_url or os.environ.get("ENGRAM_NATS_URL") or ""
        if not self._url:
            raise UsageError(
                "no_nats_url", "No NATS address is given.", cure="Set ENGRAM_NATS_URL."
            )
        if not 0 < give_up_after_s <= MAX_GIVE_UP_AFTER_S:
            raise UsageError(
                "bad_give_up_after", f"give_up_after_s is not in (0, {MAX_GIVE_UP_AFTER_S:.0f}]."
            )
        self._subject = ingest_subject(workspace)
        self._source = source
        self._timeout_s = timeout_s
        self._give_up_after_s = give_up_after_s
        self._in_flight = in_flight
        self._options = dict(connect_options or {})
        self._nats: NatsConnection | None = None
        self._refusal: EngramError | None = None
        self._refused = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect; from then on a lost connection is restored without end.

        Raises:
            UnavailableError: no server answered within ``timeout_s``.
            UnauthenticatedError: the server refused the credentials.
        """
        self._refusal = None
        self._refused.clear()
        connection = NatsConnection()
        options = {
            "name": self._source,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "error_cb": self._note_error,
            **self._options,
        }
        connecting = asyncio.ensure_future(connection.connect(self._url, **options))
        refused = asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait(
                {connecting, refused},
                timeout=self._timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            await self._settle(connecting, connection)
        finally:
            refused.cancel()
        self._nats = connection

    async def close(self) -> None:
        """Close the connection; everything returned from is acknowledged already."""
        if self._nats is not None:
            connection, self._nats = self._nats, None
            await connection.close()

    async def create(
        self, memories: Item | Sequence[Item], *, event_id: str | None = None
    ) -> list[str]:
        """Publish memories to be stored: ``content`` and any field of ``MemoryItem``.

        Args:
            memories: one, or any number; split by 256 items and by the server's largest message.
            event_id: your own id, for a repeat after a crash to be recognised within 120 s; the
                n-th message gets ``event_id-n``.

        Returns:
            The ids of the published events.

        Raises:
            InvalidError: an item is no JSON object; nothing was published.
            TooLargeError: an item fits no message; nothing was published.
            BusyError: the stream is full.
            UnavailableError: no acknowledgement came in time; some messages may be stored.
        """
        return await self._publish("create", memories, event_id, self._in_flight)

    async def update(
        self, changes: Item | Sequence[Item], *, event_id: str | None = None
    ) -> list[str]:
        """Publish changes, each with the memory's ``id`` and the fields to change, in order.

        Raises:
            EngramError: as ``create``.
        """
        return await self._publish("update", changes, event_id, 1)

    async def delete(
        self, memory_ids: str | Sequence[str], *, event_id: str | None = None
    ) -> list[str]:
        """Publish the deletion of memories by id.

        Raises:
            EngramError: as ``create``.
        """
        ids = [memory_ids] if isinstance(memory_ids, str) else memory_ids
        return await self._publish("delete", [{"id": one} for one in ids], event_id, 1)

    async def put(
        self, rows: Item | Sequence[Item], *, format_name: str, event_id: str | None = None
    ) -> list[str]:
        """Publish rows of a format of imports: stored, or what has their external id is changed.

        Raises:
            EngramError: as ``create``.
        """
        return await self._publish("put", rows, event_id, 1, format_name)

    async def _publish(
        self,
        kind: CommandKind,
        items: Item | Sequence[Item],
        event_id: str | None,
        in_flight: int,
        format_name: str | None = None,
    ) -> list[str]:
        connection = self._connected()
        self._refusal = None
        listed = [items] if isinstance(items, Mapping) else items
        max_bytes = connection.max_payload - ENVELOPE_BYTES
        bodies = split(listed, max_bytes, format_name)
        commands = self._commands(kind, bodies, event_id or str(uuid.uuid4()))
        slots = asyncio.Semaphore(in_flight)

        async def send(command: Command) -> None:
            async with slots:
                await self._send(command)

        outcomes = await asyncio.gather(*map(send, commands), return_exceptions=True)
        for outcome in outcomes:  # all have ended: nothing is sent after an error is raised
            if outcome is not None:
                raise outcome
        return [command.event_id for command in commands]

    def _commands(self, kind: CommandKind, bodies: Sequence[bytes], event_id: str) -> list[Command]:
        now = datetime.now(UTC)
        ids = [event_id if len(bodies) == 1 else f"{event_id}-{n}" for n in range(len(bodies))]
        return [
            Command(one_id, command_envelope(one_id, kind, body, now, self._source))
            for one_id, body in zip(ids, bodies, strict=True)
        ]

    async def _send(self, command: Command) -> None:
        give_up_at_s = time.monotonic() + self._give_up_after_s
        attempt = 0
        while True:
            attempt += 1
            error = await self._try(command)
            if error is None:
                return
            wait_s = _TRIES.wait_s(attempt, SystemRandom().random()) or 0.0
            hopeless = not isinstance(error, UnavailableError | BusyError)
            if hopeless or time.monotonic() + wait_s + self._timeout_s > give_up_at_s:
                raise error
            await asyncio.sleep(wait_s)

    async def _try(self, command: Command) -> EngramError | None:
        jetstream = self._connected().jetstream(timeout=self._timeout_s)
        headers = {"Nats-Msg-Id": command.event_id, **tracing.headers()}
        try:
            answer = await jetstream.publish(self._subject, command.payload, headers=headers)
        except (nats.errors.Error, OSError, ValueError) as error:
            meant = self._refusal or meaning_of(error)
            meant.__cause__ = error
            return meant
        self._acknowledged(command, answer)
        return None

    def _acknowledged(self, command: Command, answer: PubAck) -> None:
        """Take note of where on the stream a command lies; for who wants to know."""

    def _connected(self) -> NatsConnection:
        if self._nats is None or self._nats.is_closed:
            raise UnavailableError(
                "not_connected",
                "The publisher is not connected.",
                cure="Use `async with Publisher(...)`, or await connect() first.",
            )
        return self._nats

    async def _settle(self, connecting: asyncio.Future[None], connection: NatsConnection) -> None:
        if connecting.done() and connecting.exception() is None:
            return
        connecting.cancel()
        outcome = (await asyncio.gather(connecting, return_exceptions=True))[0]
        await connection.close()
        raise self._refusal or UnavailableError(
            "nats_unreachable",
            f"NATS did not answer within {self._timeout_s:g} s.",
            cure="Check ENGRAM_NATS_URL, and that `engram up` or the NATS server is running.",
        ) from (outcome if isinstance(outcome, Exception) else None)

    async def _note_error(self, error: Exception) -> None:
        text = str(error).lower()
        if "authorization violation" in text:
            self._refusal = UnauthenticatedError(
                "nats_refused",
                "NATS refused the credentials.",
                cure="Pass user and password, a token or user_credentials in connect_options.",
            )
        elif "permissions violation for publish" in text:
            self._refusal = ForbiddenError(
                "nats_not_permitted",
                "The NATS credential may not publish to this workspace.",
                cure="Use a credential that permits the workspace's ingest subject.",
            )
        if self._refusal is not None:
            self._refused.set()
        _log.info("nats connection: %s", type(error).__name__)  # each reconnect, four a second


def meaning_of(error: Exception) -> EngramError:
    """Return what a failed publish means; ``UnavailableError`` and ``BusyError`` may pass."""
    if isinstance(error, nats.js.errors.APIError):
        return _meaning_of_answer(error)
    if isinstance(error, nats.errors.MaxPayloadError):
        return TooLargeError("message_too_large", "The server's largest message has shrunk.")
    if isinstance(error, nats.js.errors.NoStreamResponseError):
        return UnavailableError(
            "no_ingest_stream",
            "No JetStream stream takes the workspace's ingest subject.",
            cure="Run `engram bootstrap`, or start `engram up`.",
        )
    return UnavailableError(
        "no_acknowledgement",
        f"JetStream did not acknowledge the message ({type(error).__name__}).",
        cure="Publish it again with the same event_id.",
    )


def _meaning_of_answer(error: nats.js.errors.APIError) -> EngramError:
    if error.err_code == _STREAM_FULL:
        return BusyError(
            "ingest_full",
            "The ingest stream is full.",
            cure="Wait until the ingest service has caught up, or free its disk.",
        )
    code = error.code or 500
    if code >= 500 or code == 429:
        return UnavailableError(
            "no_acknowledgement", f"JetStream answered {code} (error {error.err_code})."
        )
    return InvalidError("publish_refused", f"JetStream answered {code} (error {error.err_code}).")
