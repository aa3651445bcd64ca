"""Keeps a broker's subscriptions while they are served, and ends them with or without NATS."""

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import nats.errors
from nats.aio.client import Client


class Broker(Protocol):
    """What is asked of FastStream's broker."""

    async def start(self) -> None:
        """Subscribe."""

    async def stop(self) -> None:
        """Finish the handlers in flight and drain the connection."""

    async def connect(self) -> Client:
        """Return the connection there is."""


@contextlib.asynccontextmanager
async def started(broker: Broker) -> AsyncIterator[None]:
    """Serve a broker's subscriptions while inside; handlers in flight finish on leaving."""
    try:
        await broker.start()
        yield
    finally:
        await _stop(broker)


async def _stop(broker: Broker) -> None:
    """Finish the handlers in flight and close the connection.

    While NATS cannot be reached there is nothing to drain, and nats-py refuses to: the connection
    is closed as it is, and what was not acknowledged comes again.
    """
    try:
        await broker.stop()
    except nats.errors.Error:
        connection = await broker.connect()
        await connection.close()
