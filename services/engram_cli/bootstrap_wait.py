"""Waits until a store is prepared, for processes that must not start before it is."""

import asyncio
import contextlib

import nats.errors
import nats.js.errors

from engram.broker.connection import connect
from engram.broker.topology import STREAMS, broker_unavailable
from engram.errors import UnavailableError
from engram.storage import spaces
from engram.storage.connection import UNREACHABLE, open_pool, unreachable
from engram.storage.migrate import current_version, expected_version

_POLL_S = 0.5


async def wait_until_bootstrapped(
    database_url: str, nats_url: str, service: str, wait_s: float
) -> None:
    """Return once schema, a space and every stream are there; changes nothing.

    Args:
        database_url: a login that may take the role engram_worker.
        nats_url: the broker.
        service: whose branch of inboxes the login of ``nats_url`` may listen to.
        wait_s: longest wait in seconds; 0 looks once.

    Raises:
        UnavailableError: what was still missing at the end.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            await _look(database_url, nats_url, service)
        except UnavailableError:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(_POLL_S)
        else:
            return


async def _look(database_url: str, nats_url: str, service: str) -> None:
    async with await open_pool(database_url, "engram_worker", size=1, name="wait") as pool:
        try:
            async with pool.acquire() as connection:
                have = await current_version(connection)
                known = have == expected_version() and await spaces.all_spaces(connection)
        except UNREACHABLE as error:
            raise unreachable(error) from error
    if have != expected_version():
        raise _not_bootstrapped(f"schema version {have}, not {expected_version()}")
    if not known:
        raise _not_bootstrapped("there is no space")
    broker = await connect(nats_url, service)
    try:
        for stream in STREAMS:
            await broker.jetstream().stream_info(str(stream.name))
    except nats.js.errors.NotFoundError as error:
        raise _not_bootstrapped("a stream is missing") from error
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise broker_unavailable(error) from error
    finally:
        with contextlib.suppress(nats.errors.Error):
            await broker.close()


def _not_bootstrapped(what: str) -> UnavailableError:
    return UnavailableError(
        "not_bootstrapped",
        f"The store is not prepared: {what}.",
        cure="Run `engram bootstrap` with this version of engram, and see how it ended.",
    )
