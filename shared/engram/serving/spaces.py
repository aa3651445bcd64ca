"""The spaces a process knows: kept fresh from Postgres, with one open provider each."""

import asyncio
import contextlib
from uuid import UUID

import structlog

from engram.domain.budget import fingerprint, quota_of
from engram.domain.prices import price_of
from engram.domain.spaces import SpaceSpec, with_model
from engram.embedding.probe import KNOWN_GOOD
from engram.embedding.provider import ProviderError
from engram.embedding.registry import open_provider
from engram.errors import EngramError, UnavailableError
from engram.serving import counters
from engram.serving.spending import Budget, Spending
from engram.settings import Settings
from engram.storage.budgets import Account
from engram.storage.connection import UNREACHABLE, Pool
from engram.storage.spaces import Space, all_spaces, refuse_unguarded

log = structlog.get_logger(__name__)

_POLL_S = 5.0


class SpaceRegistry:
    """Spaces by id, refreshed by polling; providers are opened when first asked for.

    Args:
        pool: of the worker role.
        settings: what providers need.
    """

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._spaces: dict[int, Space] = {}
        # By space and by the number of the model that embeds for it.
        self._providers: dict[tuple[int, int], Spending] = {}
        self._draining = False

    async def refresh(self) -> None:
        """Read the spaces again.

        Raises:
            UnavailableError: a vector table lacks row-level security, or there is no space.
        """
        async with self._pool.acquire() as connection:
            await refuse_unguarded(connection)
            self._spaces = {space.id: space for space in await all_spaces(connection)}
        await self._forget_gone()
        if not self._spaces:
            raise UnavailableError(
                "not_bootstrapped", "The store has no space.", cure="Run `engram bootstrap` first."
            )

    async def _forget_gone(self) -> None:
        """Close the providers of released spaces: another space may have their id one day."""
        for place in [place for place in self._providers if place[0] not in self._spaces]:
            with contextlib.suppress(Exception):
                await self._providers.pop(place).close()

    async def run(self) -> None:
        """Keep refreshing until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                await self.refresh()
            except (*UNREACHABLE, UnavailableError) as error:
                log.warning("spaces not refreshed", error=type(error).__name__)

    @property
    def active(self) -> list[int]:
        """Ids of the spaces that take vectors."""
        return [space.id for space in self._spaces.values() if space.active]

    @property
    def all(self) -> list[int]:
        """Ids of all spaces that have a table."""
        return list(self._spaces)

    @property
    def dimensions(self) -> dict[int, int]:
        """Length of the vectors of each active space, by id."""
        return {space.id: space.spec.dimensions for space in self._spaces.values() if space.active}

    def holds(self, space: int, workspace: UUID) -> bool:
        """Whether a workspace's memories belong in a space, as it was last read."""
        known = self._spaces.get(space)
        return known is None or known.holds(workspace)

    def workspaces(self, space: int) -> frozenset[UUID] | None:
        """Return whose memories belong in a space, None for everybody's."""
        return self._get(space).workspaces

    def key(self, space: int) -> str:
        """Return the public name of a space, such as ``minilm:all-minilm-l6-v2@384``."""
        return self._get(space).spec.key

    def spec(self, space: int) -> SpaceSpec:
        """Return what a space is."""
        return self._get(space).spec

    def model_number(self, space: int) -> int:
        """Return the number of the model that embeds for a space now; 0 is its own."""
        return self._get(space).model_number

    def provider(self, space: int) -> Spending:
        """Return the open provider of a space; its calls are paid for from the shared budget.

        Raises:
            UsageError: its key is missing.
            UnavailableError: there is no such space.
        """
        known = self._get(space)
        place = (space, known.model_number)
        if place not in self._providers:
            spec = with_model(known.spec, known.embeds_with or known.spec.model)
            provider = open_provider(spec, self._settings.providers)
            counters.begin_space(known.spec.key)
            price = price_of(spec.provider, spec.model, self._settings.provider_price)
            self._providers[place] = Spending(
                provider, known.spec.key, self._budget(spec), price=price
            )
            if self._draining:
                self._providers[place].drain()
        return self._providers[place]

    def _budget(self, spec: SpaceSpec) -> Budget | None:
        chosen = self._settings
        limits = {"rpm": chosen.provider_rpm, "tpm": chosen.provider_tpm}
        quota = quota_of(spec.provider, spec.model, tier=chosen.provider_tier, **limits)
        if quota is None:
            return None
        keys = chosen.providers
        key = keys.voyage_api_key if spec.provider == "voyage" else keys.openai_api_key
        return Budget(self._pool, Account(spec.provider, spec.model, fingerprint(key)), quota)

    async def warm(self) -> None:
        """Ask every active space for one query, so that a user's first one need not load a model.

        A provider that cannot answer now is met again by a real query, which says so.
        """
        for space in self.active:
            try:
                await self.provider(space).embed([KNOWN_GOOD], "query")
            except (ProviderError, EngramError) as error:
                log.warning("query side not warmed", error=type(error).__name__)

    def warn_of_other_choice(self) -> None:
        """Say so when the setting names a space that this store was not made with."""
        wanted = self.other_choice()
        if wanted is not None:
            known = [space.spec.key for space in self._spaces.values()]
            log.warning("ENGRAM_EMBEDDING is for new stores only", setting=wanted, store=known)

    def other_choice(self) -> str | None:
        """Return the space that the setting names, if this store has no such space."""
        wanted = self._settings.space.key if self._settings.embedding else None
        return wanted if wanted not in [s.spec.key for s in self._spaces.values()] else None

    def drain(self) -> None:
        """Let no call wait for its budget any more: the process is about to end."""
        self._draining = True
        for provider in self._providers.values():
            provider.drain()

    async def close(self) -> None:
        """Close every provider."""
        for provider in self._providers.values():
            with contextlib.suppress(Exception):
                await provider.close()

    def _get(self, space: int) -> Space:
        if space not in self._spaces:
            raise UnavailableError(
                "unknown_space", f"Space {space} is gone.", cure="Try again.", retry_after_s=1
            )
        return self._spaces[space]
