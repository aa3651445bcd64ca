"""What ``engram doctor`` asks of Postgres and NATS themselves, with the login it was given."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from engram.serving.operations import Finding


async def store_findings(database_url: str) -> Sequence[Finding]:
    """Return what is wrong with the database: schema, role, dimensions, whether it takes writes.

    Raises:
        UnavailableError: it cannot be reached, or the login may not take engram's roles.
    """
    from engram.serving.checks import store_findings as judged
    from engram.storage import standing
    from engram.storage.connection import open_pool, reachable

    pool = await open_pool(database_url, "engram_worker", size=1, name="doctor")
    async with pool, reachable(), pool.acquire() as connection:
        return judged(await standing.look(connection))


async def stream_findings(nats_url: str) -> Sequence[Finding]:
    """Return what is wrong with the streams; nothing is published and no lane is asked for.

    Lanes and the canary are told by the services' own readiness: a login for them is not needed
    here, and one that bootstraps has no right to them.

    Raises:
        UnavailableError: no server can be reached.
    """
    import nats.errors

    from engram.broker.connection import connect
    from engram.serving.checks import topology_findings

    # Under permissions each role may listen to the branch of inboxes of its own name only.
    first = nats_url.split(",", maxsplit=1)[0]
    broker = await connect(nats_url, urlsplit(first).username or "doctor")
    try:
        return await topology_findings(broker, broker.jetstream(), [])
    finally:
        with contextlib.suppress(nats.errors.Error):
            await broker.close()
