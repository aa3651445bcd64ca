"""Every provider call of a process: paid for from the shared budget, then measured."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from engram import metrics
from engram.domain.batching import DEFAULT_RATIO, estimate_tokens, learn_ratio
from engram.domain.budget import Quota
from engram.domain.retry import BASE_DELAY_S, MAX_RETRY_AFTER_S
from engram.domain.spaces import SpaceSpec
from engram.embedding.provider import Embedded, Kind, Limits, Provider, ProviderError
from engram.embedding.turns import Turns
from engram.storage import budgets
from engram.storage.budgets import Account
from engram.storage.connection import UNREACHABLE, Pool

log = structlog.get_logger(__name__)

# Longer waits are kept in Postgres rather than in memory: the caller defers its texts.
PATIENCE_S: Final = 20.0
_MIN_WAIT_S: Final = 0.001
_MAX_WAIT_S: Final = 1.0
_SMALL: Final = 0.001


class Budget:
    """This process's hand on a budget that all replicas share.

    Args:
        pool: of the worker role.
        account: whose quota it is.
        quota: what the provider allows.
    """

    def __init__(self, pool: Pool, account: Account, quota: Quota) -> None:
        self._pool = pool
        self._account = account
        self.quota = quota
        # One document call asks at a time: the others would only hear the same answer. Queries
        # have a line of their own, for a document may wait there that is granted nothing yet.
        self._turns: dict[Kind, Turns] = {"query": Turns(), "document": Turns()}
        self._draining = asyncio.Event()
        self._owed = 0.0
        self._share = metrics.BUDGET_SHARE.labels(account.provider, account.model)

    async def take(
        self, tokens: int, kind: Kind, patience_s: float = PATIENCE_S, *, rank: int = 0
    ) -> None:
        """Return when a call of so many tokens may be made; it must be made at once.

        Raises:
            ProviderError: class ``rate_limited``: not within ``patience_s``, or not at once while
                this process drains. No call was made.
        """
        deadline = time.monotonic() + patience_s
        try:
            async with asyncio.timeout(patience_s), self._turns[kind].turn(rank):
                while (wait_s := await self._asked(tokens, kind)) > 0:
                    if self._draining.is_set() or time.monotonic() + wait_s > deadline:
                        raise _used_up(wait_s)
                    await self._rest(min(max(wait_s, _MIN_WAIT_S), _MAX_WAIT_S))
        except TimeoutError:
            raise _used_up(None) from None

    def drain(self) -> None:
        """Wait for nothing any more: who waits is refused now, what is granted at once still is."""
        self._draining.set()

    async def _rest(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._draining.wait()

    async def _asked(self, tokens: int, kind: Kind) -> float:
        """Ask once; the seconds to wait. Without a database nothing is granted."""
        asked_at = time.monotonic()
        try:
            async with self._pool.acquire() as connection:
                answer = await budgets.take(
                    connection, self._account, self.quota, tokens, query=kind == "query"
                )
        except UNREACHABLE as error:
            log.warning("budget cannot be asked", error=type(error).__name__)
            return _MAX_WAIT_S
        self._share.set(answer.share)
        # Stopped or starved since it asked: the window for which this was granted has moved on.
        stale = time.monotonic() - asked_at > self.quota.grant_s
        return _MIN_WAIT_S if stale else answer.wait_s

    async def settle(self, tokens: int, counted: int | None, kind: Kind, elapsed_s: float) -> None:
        """Pay what the call of so many tokens really cost."""
        if counted is None:
            return
        more = counted - self.quota.cost(tokens, query=kind == "query")
        # A credit counts while its window lasts. Small change is not worth a statement: a credit
        # is let go, a debt is carried to the next call.
        if more < 0 and elapsed_s > self.quota.grant_s:
            return
        more, self._owed = more + self._owed, 0.0
        if abs(more) < _SMALL * self.quota.burst_tokens:
            self._owed = max(more, 0.0)
            return
        try:
            async with self._pool.acquire() as connection:
                await budgets.correct(connection, self._account, self.quota, more)
        except UNREACHABLE as error:
            log.warning("budget not corrected", error=type(error).__name__)

    async def cut(self, retry_after_s: float | None) -> None:
        """Slow down after a 429, on every replica."""
        try:
            async with self._pool.acquire() as connection:
                share = await budgets.cut(connection, self._account, self.quota, retry_after_s)
        except UNREACHABLE as error:
            log.warning("budget not cut", error=type(error).__name__)
            return
        self._share.set(share)
        log.warning("provider limits us", model=self._account.model, share=round(share, 3))


class Pause:
    """What a process remembers of a 429 where no quota is known: nobody asks again too soon.

    Without it each batch of a backlog would be refused by itself, second after second.
    """

    def __init__(self) -> None:
        self._ends_at = 0.0

    def begin(self, retry_after_s: float | None) -> float:
        """Let nothing through for as long as the provider says, at least a second; the seconds."""
        for_s = min(max(retry_after_s or 0.0, BASE_DELAY_S), MAX_RETRY_AFTER_S)
        self._ends_at = max(self._ends_at, time.monotonic() + for_s)
        return for_s

    def check(self) -> None:
        """Return when a call may be made.

        Raises:
            ProviderError: class ``rate_limited``: not yet. No call was made.
        """
        left_s = self._ends_at - time.monotonic()
        if left_s > 0:
            raise ProviderError("rate_limited", "The provider limits us.", retry_after_s=left_s)


class Spending:
    """A provider whose calls are paid for and measured; itself a provider.

    Args:
        provider: what is called.
        label: of the space, in metrics.
        budget: None where nothing is limited.
        rank: the lower goes first to the budget.
        price: US dollars for a token, None when it is not known.
    """

    def __init__(
        self,
        provider: Provider,
        label: str,
        budget: Budget | None,
        rank: int = 0,
        *,
        price: float | None = None,
    ) -> None:
        self._provider = provider
        self._label = label
        self._budget = budget
        self._rank = rank
        self._price = price
        self._pause = Pause()
        self._ratio = DEFAULT_RATIO

    def behind(self) -> Spending:
        """Return the same provider for work that lets others go ahead to the budget."""
        other = Spending(
            self._provider, self._label, self._budget, self._rank + 1, price=self._price
        )
        other._pause = self._pause
        return other

    @property
    def spec(self) -> SpaceSpec:
        """The space its vectors belong to."""
        return self._provider.spec

    @property
    def limits(self) -> Limits:
        """What one call may carry: the provider's limits, and half a burst of the quota."""
        limits = self._provider.limits
        if self._budget is None:
            return limits
        most = min(limits.max_tokens, self._budget.quota.max_call_tokens)
        return replace(limits, max_tokens=most)

    @property
    def ratio(self) -> float:
        """Tokens per unit of text, as learned (``engram.domain.batching.estimate_tokens``)."""
        return self._ratio

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Embed texts in exactly one call, once the budget allows it.

        Raises:
            ProviderError: as the provider's; ``rate_limited`` too when the budget is used up.
        """
        if not texts:
            return await self._provider.embed(texts, kind)
        self._pause.check()
        ratio = self._ratio
        estimated = sum(estimate_tokens(text, ratio) for text in texts)
        if self._budget is not None:
            with metrics.BUDGET_WAIT.labels(self._label, kind).time():
                await self._budget.take(estimated, kind, rank=self._rank)
        started = time.perf_counter()
        embedded = await self._call(texts, kind)
        elapsed_s = time.perf_counter() - started
        self._ratio = learn_ratio(self._ratio, estimated, embedded.total_tokens, made_with=ratio)
        tokens = embedded.total_tokens or 0
        metrics.PROVIDER_TOKENS.labels(self._label, kind).inc(tokens)
        if self._price is not None:
            metrics.PROVIDER_COST.labels(self._label, kind).inc(self._price * tokens)
        if self._budget is not None:
            await self._budget.settle(estimated, embedded.total_tokens, kind, elapsed_s)
        return embedded

    async def _call(self, texts: Sequence[str], kind: Kind) -> Embedded:
        started = time.perf_counter()
        outcome = "ok"
        try:
            return await self._provider.embed(texts, kind)
        except ProviderError as error:
            outcome = error.error_class
            if outcome == "rate_limited":
                await self._slow_down(error.retry_after_s)
            raise
        finally:
            elapsed = time.perf_counter() - started
            metrics.PROVIDER_SECONDS.labels(self._label, kind, outcome).observe(elapsed)

    async def _slow_down(self, retry_after_s: float | None) -> None:
        if self._budget is None:
            for_s = self._pause.begin(retry_after_s)
            log.warning("provider limits us", model=self.spec.model, for_s=round(for_s, 1))
        else:
            await self._budget.cut(retry_after_s)

    def drain(self) -> None:
        """Let no call wait for the budget any more, because the process is about to end.

        Its texts stay in Postgres, and another process takes them.
        """
        if self._budget is not None:
            self._budget.drain()

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()


def _used_up(wait_s: float | None) -> ProviderError:
    return ProviderError("rate_limited", "The rate budget is used up.", retry_after_s=wait_s)
