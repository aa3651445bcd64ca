"""Publishes outbox lines: claimed in Postgres, pipelined to JetStream, deleted when acked."""

import asyncio
import contextlib
import time

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext

from engram import metrics
from engram.events import CONTENT_TYPE
from engram.serving.cancelling import heed_cancellation
from engram.storage import outbox
from engram.storage.connection import UNREACHABLE, Pool
from engram.storage.outbox import Line

log = structlog.get_logger(__name__)

_BATCH = 500
_POLL_S = 1.0
_RETRY_S = 1.0
_RESET_S = 1.0


class Relay:
    """One relay of a process; any number may run at once.

    A line is published and its message acknowledged before it is deleted: a crash in between
    publishes it again with the same ``Nats-Msg-Id``, which the broker drops.

    Args:
        pool: of the worker role.
        jetstream: where to publish.
    """

    def __init__(self, pool: Pool, jetstream: JetStreamContext) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._woken = asyncio.Event()
        self._floor = 0
        self._floor_reset_at = 0.0

    def wake(self) -> None:
        """Say that this process has just committed a line."""
        self._woken.set()

    async def run(self) -> None:
        """Relay until cancelled; trouble is waited out."""
        while True:
            heed_cancellation()
            self._woken.clear()
            try:
                # Less than a batch was all there was: what came meanwhile has woken us.
                if await self.publish_some() == _BATCH:
                    continue
            except (*UNREACHABLE, nats.errors.Error, nats.js.errors.Error) as error:
                log.warning("relay waits", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)
                continue
            # Other processes' lines, and lines of a crashed relay, are found by polling.
            # Not wait_for: in Python 3.11 it forgets a cancellation that comes with the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._woken.wait()

    async def publish_some(self) -> int:
        """Publish up to one batch of lines and return how many the broker stored."""
        self._reset_floor()
        async with self._pool.acquire() as connection, connection.transaction():
            lines = await outbox.claim_lines(connection, self._floor, _BATCH)
            if not lines:
                return 0
            stored = await self._publish(lines)
            await outbox.delete_lines(connection, [line.id for line in stored])
        if len(stored) == len(lines):
            self._floor = lines[-1].id
        metrics.PUBLISHED.inc(len(stored))
        return len(stored)

    def _reset_floor(self) -> None:
        # Ids are given before commit, so a lower one may still appear; the floor only saves
        # claims from wading through deleted lines a long snapshot keeps alive.
        now = time.monotonic()
        if now - self._floor_reset_at >= _RESET_S:
            self._floor, self._floor_reset_at = 0, now

    async def _publish(self, lines: list[Line]) -> list[Line]:
        futures = [
            await self._jetstream.publish_async(
                line.subject,
                line.payload,
                wait_stall=10,
                headers={"Nats-Msg-Id": str(line.uuid), "Content-Type": CONTENT_TYPE},
            )
            for line in lines
        ]
        done = await asyncio.gather(
            *(asyncio.wait_for(future, 10) for future in futures), return_exceptions=True
        )
        stored = [line for line, ack in zip(lines, done, strict=True) if not _failed(ack)]
        if not stored:
            failure = next(ack for ack in done if isinstance(ack, BaseException))
            raise failure
        return stored


def _failed(ack: object) -> bool:
    return isinstance(ack, BaseException)
