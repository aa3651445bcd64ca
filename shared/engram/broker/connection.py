"""The connection to NATS: patient once it was made, quick to say when it cannot be made."""

import asyncio
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client

from engram.broker.topology import broker_unavailable

log = structlog.get_logger(__name__)

# JetStream delivers pulled messages to the puller's inbox, so whoever may listen to every inbox
# reads what every service is sent. Each service has its own branch, which a credential can name.
INBOX = "_INBOX"


def inbox_of(service: str) -> str:
    """Return the branch of subjects on which a service is answered."""
    return f"{INBOX}.{service}"


async def connect(nats_url: str, name: str) -> Client:
    """Connect to one of the servers and stay connected for ever.

    Raises:
        UnavailableError: no server of the list can be reached.
    """
    servers = [url.strip() for url in nats_url.split(",") if url.strip()]
    client = Client()

    async def lost() -> None:
        if not client.is_closed and not client.is_draining:
            log.warning("nats disconnected")

    try:
        # nats.connect sleeps two seconds before a second try: a closed port is found out first.
        await _probe_any(servers)
        await client.connect(
            servers,
            name=f"engram {name}",
            inbox_prefix=inbox_of(name),
            connect_timeout=5,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.5,  # type: ignore[arg-type] # only slept; half a second is meant
            error_cb=_ignore,
            disconnected_cb=lost,
            reconnected_cb=_back,
        )
    except (OSError, ValueError, nats.errors.Error) as error:
        raise broker_unavailable(error) from error
    return client


async def _probe_any(urls: list[str]) -> None:
    """Return once one of these servers takes connections; of a cluster some may be down."""
    probes = [asyncio.create_task(_probe(url)) for url in urls]
    try:
        for number, probe in enumerate(asyncio.as_completed(probes), 1):
            try:
                await probe
            except (OSError, ValueError):
                if number == len(probes):
                    raise
            else:
                return
    finally:
        for task in probes:
            task.cancel()
        await asyncio.gather(*probes, return_exceptions=True)


async def _probe(url: str) -> None:
    parts = urlsplit(url)
    _, writer = await asyncio.wait_for(
        asyncio.open_connection(parts.hostname, parts.port or 4222), timeout=5
    )
    writer.close()


async def _ignore(error: Exception) -> None:
    # Each caller sees its own errors; this one only repeats them.
    log.debug("nats error", error=type(error).__name__)


async def _back() -> None:
    log.warning("nats reconnected")
