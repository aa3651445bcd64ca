"""Makes the plan of a migration: counts, a measured sample, limits and what would block it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from engram.domain.batching import estimate_tokens
from engram.domain.budget import Quota, fingerprint, quota_of
from engram.domain.indexing import EXACT_ROWS
from engram.domain.migration_plan import Blocker, Counted, Plan, Rates, make_plan
from engram.domain.migration_request import PlanRequest
from engram.domain.spaces import SpaceSpec, are_compatible
from engram.embedding.provider import ProviderError
from engram.embedding.registry import open_provider
from engram.errors import EngramError
from engram.serving.process import Service
from engram.settings import Settings
from engram.storage import backfilling, migrating, spaces
from engram.storage.budgets import Account
from engram.storage.connection import Connection
from engram.storage.spaces import MAX_SPACES, Space

log = structlog.get_logger(__name__)

_SAMPLE = 1_000
# Texts whose tokens the provider is asked to count: one small call.
_MEASURED = 64
# Calls that are in flight at a provider across a network (engram_embedder); a local model has one.
_REMOTE_CALLS = 8
_LOCAL = frozenset({"minilm", "hashing", "null"})


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one call said: tokens for each estimated one, and texts a second."""

    ratio: float = 1.0
    texts_per_s: float | None = None
    blocker: Blocker | None = None


async def plan(
    service: Service, asked: PlanRequest, workspaces: Sequence[UUID] | None, source: Space
) -> Plan:
    """Return the plan; nothing is changed by it.

    Args:
        service: whose pool of the worker role counts, and whose settings know the providers.
        asked: what is to be planned.
        workspaces: whose memories move, None for all.
        source: the space they are read from now.
    """
    async with service.pool.acquire() as connection:
        known = await spaces.all_spaces(connection)
        target = next((space for space in known if space.spec == asked.target), None)
        rows, texts = await backfilling.plan_counts(
            connection, workspaces, target.id if target else None
        )
        sample = await backfilling.sample_texts(connection, workspaces, rows, _SAMPLE)
        scopes = await backfilling.plan_scopes(connection, workspaces, EXACT_ROWS)
        quota = _quota(service.settings, asked.target)
        learned = await _learned(connection, service.settings, asked.target)
        blockers = await _blockers(connection, known, asked.target, source)
    measured = await _measure(service.settings, asked, sample)
    tokens = round(sum(estimate_tokens(text) for text in sample) * measured.ratio)
    counted = Counted(rows, texts, len(sample), tokens, *scopes)
    rates = Rates(
        quota=quota,
        learned_share=learned,
        share=float(asked.options["share"]),
        paid=service.settings.provider_price,
        texts_per_s=measured.texts_per_s,
    )
    blockers += [measured.blocker] if measured.blocker else []
    found = make_plan(source.spec.key, asked.target, counted, rates, blockers)
    return _with_disk(found, service.settings)


def _quota(settings: Settings, spec: SpaceSpec) -> Quota | None:
    limits = {"rpm": settings.provider_rpm, "tpm": settings.provider_tpm}
    return quota_of(spec.provider, spec.model, tier=settings.provider_tier, **limits)


async def _learned(connection: Connection, settings: Settings, spec: SpaceSpec) -> float:
    keys = settings.providers
    key = keys.voyage_api_key if spec.provider == "voyage" else keys.openai_api_key
    account = Account(spec.provider, spec.model, fingerprint(key))
    return await backfilling.learned_share(connection, account)


async def _measure(settings: Settings, asked: PlanRequest, sample: list[str]) -> _Measured:
    """Let the provider count the tokens of a few texts, in one call whose time is taken too."""
    try:
        provider = open_provider(asked.target, settings.providers)
    except EngramError as error:
        return _Measured(blocker=Blocker(error.code, error.detail, error.cure))
    texts = sample[:_MEASURED]
    try:
        if not asked.measure or not texts:
            return _Measured()
        await provider.embed(texts[:1], "document")  # a model is loaded once, not for every text
        started = time.perf_counter()
        embedded = await provider.embed(texts, "document")
        took_s = max(time.perf_counter() - started, 1e-6)
    except ProviderError as error:
        cure = "Check its address and its key; the plan's tokens are estimated."
        detail = f"{asked.target.key} cannot be asked: {error.detail}"
        return _Measured(blocker=Blocker("target_unavailable", detail, cure))
    finally:
        await provider.close()
    estimated = sum(estimate_tokens(text) for text in texts)
    calls = 1 if asked.target.provider in _LOCAL else _REMOTE_CALLS
    ratio = embedded.total_tokens / estimated if embedded.total_tokens else 1.0
    return _Measured(ratio, calls * len(texts) / took_s)


async def _blockers(
    connection: Connection, known: Sequence[Space], wanted: SpaceSpec, source: Space
) -> list[Blocker]:
    found: list[Blocker] = []
    target = next((space for space in known if space.spec == wanted), None)
    if target is None and len(known) >= MAX_SPACES:
        detail = f"There are {MAX_SPACES} spaces already."
        found.append(Blocker("too_many_spaces", detail, "Release one that nothing reads."))
    elif target is None and are_compatible(source.spec, wanted):
        detail = f"{wanted.key} makes vectors that {source.spec.key} may hold: none need be moved."
        cure = f"Let it embed from now on: `engram spaces use {source.id} {wanted.model}`."
        found.append(Blocker("compatible_space", detail, cure))
    if target is not None and target.id == source.id:
        detail = f"The memories are in {source.spec.key} already."
        found.append(Blocker("same_space", detail, "Name another space."))
    if target is not None and not target.active:
        detail = f"The space {target.spec.key} is being released."
        found.append(Blocker("space_retired", detail, "Wait until it is gone."))
    if await migrating.under_way(connection) is not None:
        detail = "Another migration is under way; there is one at a time."
        found.append(Blocker("migration_under_way", detail, "Release or abort that one first."))
    return found


def _with_disk(found: Plan, settings: Settings) -> Plan:
    """Add what is known of the disk: only where the server's own directory is at hand."""
    needed = found.disk_bytes + found.index_bytes
    if settings.data_dir is None or not settings.data_dir.exists():
        return found.noting("The free disk of the Postgres server cannot be seen from here.")
    free = shutil.disk_usage(settings.data_dir).free
    if needed <= free:
        return found.noting(f"{free} bytes of disk are free.")
    detail = f"About {needed} bytes are needed, and {free} are free."
    return found.blocked(Blocker("disk_full", detail, "Make room on the Postgres server's disk."))
