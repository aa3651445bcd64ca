"""What becomes of texts a provider failed: the rule decides, Postgres remembers."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from engram import metrics
from engram.domain.retry import DeadLetter, Decision, Defer, PauseLane, RetryAt, Split, decide
from engram.embedding.provider import Provider, ProviderError
from engram.serving.process import Service
from engram.storage.vectors import Failure, Text, record_failures
from engram_embedder.gate import Gate
from engram_embedder.provider_call import Bad


class Failing:
    """The failures of one lane, and whether the lane is paused.

    Args:
        service: whose pool is written to.
        space: id of the space.
        provider: probed with a known-good text, to tell a bad text from a bad provider.
        gate: of the provider and model; it knows whether they are down.

    Attributes:
        recorded: texts written down as failures so far.
    """

    def __init__(self, service: Service, space: int, provider: Provider, gate: Gate) -> None:
        self._service = service
        self._space = space
        self._provider = provider
        self._gate = gate
        self._label = service.spaces.key(space)
        self.recorded = 0

    @property
    def paused(self) -> bool:
        """The provider refuses or fails everything; nothing is sent for now."""
        paused = self._gate.paused
        metrics.LANE_PAUSED.labels(self._label).set(paused)
        return paused

    async def look(self) -> bool:
        """Ask a provider that is down for a known-good text when that is due; True if paused."""
        await self._gate.probe_if_due(self._provider)
        return self.paused

    async def handle(self, bad: Bad) -> list[list[Text]]:
        """Write the failure down, or return the halves to try at once."""
        error, texts = bad.error, bad.texts
        if self.paused:
            # Sent before the provider was known to be down, or not sent at all.
            await self.postpone(texts)
            return []
        down = await self._gate.is_down(self._provider, error)
        halves: list[list[Text]] = []
        failures: list[Failure] = []
        for attempts, group in _by_attempts(texts).items():
            decision = self._decide(error, attempts, len(texts), down=down)
            if isinstance(decision, Split):
                middle = len(group) // 2
                halves += [half for half in (group[:middle], group[middle:]) if half]
            else:
                failures += [self._failure(text, error, decision) for text in group]
        if failures:
            await self._record(failures)
        return halves

    def _decide(self, error: ProviderError, attempts: int, size: int, *, down: bool) -> Decision:
        if down:
            return PauseLane(self._gate.pause[1])
        decision = decide(
            error.error_class,
            attempts,
            datetime.now(UTC),
            error.retry_after_s,
            random.random(),  # noqa: S311 - jitter, not a secret
            batch_size=size,
        )
        if isinstance(decision, PauseLane):
            self._gate.open(decision.until, error)
        return decision

    def _failure(self, text: Text, error: ProviderError, decision: Decision) -> Failure:
        kind = error.error_class
        metrics.FAILED.labels(self._label, kind).inc()
        match decision:
            case DeadLetter(reason):
                metrics.DEAD_LETTERS.labels("embedding").inc()
                detail = f"{error.detail} ({reason})"
                return Failure(text, text.attempts + 1, kind, detail, datetime.now(UTC), dead=True)
            case RetryAt(at, attempt):
                return Failure(text, attempt, kind, error.detail, at, dead=False)
            case Defer(until) | PauseLane(until):
                return Failure(text, text.attempts, kind, error.detail, until, dead=False)
            case _:
                raise AssertionError(decision)

    async def postpone(self, texts: Sequence[Text]) -> None:
        """Write down that these wait for the end of the pause; no attempt is consumed."""
        kind, until = self._gate.pause
        await self._record(
            [Failure(t, t.attempts, kind, "The lane is paused.", until, dead=False) for t in texts]
        )

    async def _record(self, failures: Sequence[Failure]) -> None:
        async with self._service.pool.acquire() as connection, connection.transaction():
            await record_failures(connection, failures, self._space)
        self.recorded += len(failures)


def _by_attempts(texts: Sequence[Text]) -> dict[int, list[Text]]:
    groups: dict[int, list[Text]] = {}
    for text in texts:
        groups.setdefault(text.attempts, []).append(text)
    return groups
