"""The way to one provider and model: how many calls at once, and none while it is down."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from engram import metrics
from engram.domain import breaker as rules
from engram.domain.breaker import Breaker
from engram.domain.lanes import Lane
from engram.domain.retry import ErrorClass, PauseLane, decide
from engram.domain.window import Window
from engram.embedding.probe import KNOWN_GOOD
from engram.embedding.provider import Embedded, Provider, ProviderError
from engram_embedder.slots import Slots

log = structlog.get_logger(__name__)

_OUTAGES: Final = frozenset({"server", "timeout", "connection", "contract"})
# Signs that fewer calls at once would do better.
_CROWDED: Final = frozenset({"rate_limited", "timeout"})
_LOCAL: Final = frozenset({"minilm", "hashing", "null"})


class Gate:
    """What all lanes of one provider and model go through.

    Args:
        provider: name in a space.
        model: name in a space.

    Attributes:
        local: the model runs on this machine.
    """

    def __init__(self, provider: str, model: str) -> None:
        self._labels = (provider, model)
        # A model on this machine has as many hands as it has: more calls only queue.
        self.local = provider in _LOCAL
        self._window = Window.local() if self.local else Window.remote()
        self._slots = Slots(lambda: self._window.calls)
        self._breaker = Breaker()
        self._probing = asyncio.Lock()
        self._pause_class: ErrorClass = "server"
        self._paused_until = datetime.fromtimestamp(0, UTC)
        self._show()

    @property
    def paused(self) -> bool:
        """The provider is taken for down: what is to be done waits in Postgres."""
        return self._breaker.pausing

    @property
    def pause(self) -> tuple[ErrorClass, datetime]:
        """Why it is paused, and when it is looked at again."""
        return self._pause_class, self._paused_until

    @property
    def calls(self) -> int:
        """How many calls may be in flight now."""
        return self._window.calls

    async def embed(
        self, provider: Provider, texts: Sequence[str], lane: Lane = "live"
    ) -> Embedded:
        """Embed documents in one call, when it is the lane's turn.

        Raises:
            ProviderError: as the provider's; it is `paused` when the call was not even made.
        """
        async with self._slots.slot(lane):
            # Merely suspect: wait for the probe's answer where we are.
            async with self._probing:
                pass
            if self.paused:
                raise ProviderError(self._pause_class, "The lane is paused.")
            try:
                embedded = await provider.embed(texts, "document")
            except ProviderError as error:
                if error.error_class in _CROWDED:
                    self._window = self._window.shrunk(time.monotonic())
                raise
            self._window = self._window.grown(self._slots.in_flight)
        self._breaker = rules.succeeded(self._breaker)
        metrics.WINDOW.labels(*self._labels).set(self._window.calls)
        return embedded

    async def is_down(self, provider: Provider, error: ProviderError) -> bool:
        """Say whether a failed call was the provider's failure rather than its texts'.

        A known-good text decides, unless one was answered just now; all who ask at the same time
        share the one answer.
        """
        if error.error_class in {"rate_limited", "auth"}:
            return self.paused
        outage = error.error_class in _OUTAGES
        self._breaker = rules.failed(self._breaker, time.monotonic(), outage=outage)
        await self.probe_if_due(provider, error.error_class)
        return self.paused

    async def probe_if_due(self, provider: Provider, because: ErrorClass | None = None) -> None:
        """Send the known-good text if one may be sent now, and open or close accordingly."""
        async with self._probing:
            now = time.monotonic()
            if not rules.may_probe(self._breaker, now):
                return
            self._breaker = rules.probing(self._breaker, now)
            self._show()
            try:
                await provider.embed([KNOWN_GOOD], "document")
            except ProviderError as error:
                self._failed_probe(error, because or self._pause_class)
            except BaseException:
                # Cancelled while it waited: nothing was learnt, and the next may ask at once.
                self._breaker = rules.opened(self._breaker, now, 0.0)
                raise
            else:
                self._close()

    def _failed_probe(self, error: ProviderError, because: ErrorClass) -> None:
        if error.error_class == "rate_limited":
            # It answers: the budget slows down, and nobody is kept out.
            self._close()
            return
        verdict = decide(
            because if error.error_class == "rejected" else error.error_class,
            *(0, datetime.now(UTC), error.retry_after_s),
            random.random(),  # noqa: S311 - jitter, not a secret
            provider_down=True,
        )
        if isinstance(verdict, PauseLane):
            self.open(verdict.until, error)

    def open(self, until: datetime, error: ProviderError) -> None:
        """Let nothing through until the probe at ``until`` is answered."""
        pause_s = (until - datetime.now(UTC)).total_seconds()
        known = self.paused and error.error_class == self._pause_class
        self._breaker = rules.opened(self._breaker, time.monotonic(), pause_s)
        self._pause_class, self._paused_until = error.error_class, max(until, self._paused_until)
        self._show()
        if known:
            return
        log.error(
            "provider paused",
            provider=self._labels[0],
            model=self._labels[1],
            error_class=error.error_class,
            detail=error.detail,
            until=until.isoformat(),
        )

    def _close(self) -> None:
        if self.paused:
            log.info("provider answers again", provider=self._labels[0], model=self._labels[1])
        self._breaker = rules.proven(self._breaker)
        self._show()

    def _show(self) -> None:
        metrics.BREAKER.labels(*self._labels).set(self._breaker.severity)
        metrics.WINDOW.labels(*self._labels).set(self._window.calls)


class Gates:
    """One gate for each provider and model, whatever the number of spaces."""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, str], Gate] = {}

    def of(self, provider: str, model: str) -> Gate:
        """Return the gate of a provider's model."""
        return self._gates.setdefault((provider, model), Gate(provider, model))
