"""Stops a subscribed broker, whether NATS is there to be drained or not."""

from typing import Protocol

import nats.errors
from nats.aio.client import Client


class Broker(Protocol):
    """What is asked of FastStream's broker."""

    async def stop(self) -> None:
        """Finish the handlers in flight and drain the connection."""

    async def connect(self) -> Client:
        """Return the connection there is."""


async def stop_broker(broker: Broker) -> None:
    """Finish the handlers in flight and close the connection.

    While NATS cannot be reached there is nothing to drain, and nats-py refuses to: the connection
    is closed as it is, and what was not acknowledged comes again.
    """
    try:
        await broker.stop()
    except nats.errors.Error:
        connection = await broker.connect()
        await connection.close()
