"""Looks every 30 seconds whether streams, consumers and their messages are there; repairs them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from nats.js import JetStreamContext

from engram import metrics
from engram.broker import losses
from engram.broker.losses import Picture
from engram.broker.topology import MEMORY, STREAM_BYTES, Reconciled, reconcile
from engram.errors import UnavailableError
from engram.serving.cancelling import heed_cancellation
from engram.serving.operations import Finding
from engram.serving.spaces import SpaceRegistry
from engram.storage import sweeps
from engram.storage.connection import UNREACHABLE, Pool
from engram.storage.reconciling import GRACE

log = structlog.get_logger(__name__)

PERIOD_S = 30.0
# Between the clocks of this machine, the broker's and the database's.
_SKEW = timedelta(seconds=5)
_SWEEP = "reconcile"


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Leave to the next look what a server that is away keeps from being done."""
    try:
        yield
    except (*UNREACHABLE, UnavailableError) as error:
        log.warning("topology not checked", error=type(error).__name__)


class Watchdog:
    """Repairs the topology, and has reconcile make good what bells were lost.

    Reconcile leaves alone what is younger than its grace. So it is due at once, for what is older,
    and again at every look until a pass has begun a grace after the loss: that one sees them all.

    Args:
        pool: of the worker role.
        jetstream: whose topology is watched.
        spaces: which durables there must be.
        replicas: copies of each stream.
        reconnects: how often the connection to the broker was lost and made again so far.
        max_bytes: of each stream.
    """

    def __init__(
        self,
        pool: Pool,
        jetstream: JetStreamContext,
        spaces: SpaceRegistry,
        replicas: int,
        reconnects: Callable[[], int] = lambda: 0,
        max_bytes: int = STREAM_BYTES,
    ) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._spaces = spaces
        self._replicas = replicas
        self._max_bytes = max_bytes
        self._reconnects = reconnects
        self._seen_reconnects = reconnects()
        self._seen: Picture | None = None
        self._wanted_since: datetime | None = None

    async def run(self, period_s: float = PERIOD_S) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            heed_cancellation()
            await asyncio.sleep(period_s)

    async def check(self) -> Sequence[Finding]:
        """Warn while what was lost or may have been is being made good."""
        if self._wanted_since is None:
            return ()
        detail = "Streams, consumers or messages of NATS were lost, or its connection was."
        cure = (
            "Nothing: reconcile finds in Postgres what has no vector. The log says what was lost."
        )
        return (Finding("losses", detail, cure, "warning"),)

    async def look(self) -> bool:
        """Look once; True when something was missing or lost."""
        found = False
        with _patient():
            made = await reconcile(
                self._jetstream,
                self._spaces.active,
                replicas=self._replicas,
                max_bytes=self._max_bytes,
            )
            found = await self._judge(made)
        with _patient():
            await self._make_due()
        return found

    async def _judge(self, made: Reconciled) -> bool:
        """Report what is wrong, and note since when a pass of reconcile is wanted."""
        if made.anything:
            self._report(made)
            self._want()
        if MEMORY.name in made.streams:
            self._seen = None  # a new one: there is nothing to hold it against
        lost = await self._lost()
        count = self._reconnects()
        if count != self._seen_reconnects:
            # A broker that crashed may have lost what it had acknowledged a moment before.
            self._seen_reconnects = count
            self._want()
        return made.anything or lost

    async def _lost(self) -> bool:
        now = await losses.look(self._jetstream, self._spaces.active)
        before, self._seen = self._seen, now
        if before is None:
            return await self._younger_than_reconcile(now)
        self._seen = losses.onward(before, now)
        kind = losses.lost(before, now)
        if kind is None:
            return False
        if kind == "made_anew":
            self._seen = now
        log.error(
            "messages are gone from the event stream",
            kind=kind,
            first_sequence=now.first,
            last_sequence=now.last,
            done_before=dict(before.done),
        )
        metrics.STREAM_LOSSES.labels(kind).inc()
        self._want()
        return True

    async def _younger_than_reconcile(self, now: Picture) -> bool:
        """Whether a store that has been at work met a stream it does not know."""
        async with self._pool.acquire() as connection:
            started = await sweeps.last_started(connection, _SWEEP)
        if self._wanted_since or not (started and now.created and started < now.created):
            return False
        log.error("the event stream was made anew", created=now.created.isoformat())
        metrics.STREAM_LOSSES.labels("made_anew").inc()
        self._want()
        return True

    def _report(self, made: Reconciled) -> None:
        log.error(
            "topology was missing and made again", streams=made.streams, durables=made.durables
        )
        metrics.TOPOLOGY_REPAIRS.labels("stream").inc(len(made.streams))
        metrics.TOPOLOGY_REPAIRS.labels("durable").inc(len(made.durables))

    def _want(self) -> None:
        self._wanted_since = datetime.now(UTC) + GRACE + _SKEW

    async def _make_due(self) -> None:
        if self._wanted_since is None:
            return
        async with self._pool.acquire() as connection:
            started = await sweeps.last_started(connection, _SWEEP)
            if started is not None and started >= self._wanted_since:
                self._wanted_since = None
            else:
                await sweeps.due_now(connection, _SWEEP)
