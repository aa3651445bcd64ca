"""Verifies a new space: nothing missing, nothing foreign, and searches that find as much."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import structlog

from engram.domain.spaces import SpaceSpec
from engram.domain.verifying import Comparison, Difference, Reason, reasons_of
from engram.serving.process import Service
from engram.storage import verifying
from engram.storage.migrating import Migration
from engram.storage.verifying import Name, Sampled, Scope
from engram_migrator.asking import embed_all
from engram_migrator.shadow import compare_reads

log = structlog.get_logger(__name__)

SAMPLE: Final = 100
# What is younger may still be on its way; what differs is looked at again for as long.
_YOUNG: Final = timedelta(seconds=10)
_PATIENCE_S: Final = 10.0
_LOOK_S: Final = 0.5
# Of a very long list of namespaces that differ, the first are told.
_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the new space may be read.

    Attributes:
        ok: every namespace that was looked at may be cut over.
        figures: the whole verdict as JSON values, as it is stored.
        failed: what is held against single namespaces.
    """

    ok: bool
    figures: dict[str, Any]
    failed: dict[Name, list[Reason]] = field(default_factory=dict)


async def run(
    service: Service, migration: Migration, names: Sequence[Name] | None = None
) -> Verdict:
    """Verify namespaces of a migration, or all of them, and store what was found.

    Nothing is changed but the record; calling it again starts from the beginning.

    Args:
        service: whose pool and providers are used.
        migration: its options say how many ``sample``s are embedded again, how many ``queries`` are
            read in both spaces, and which queries were ``judged`` by a person.
        names: (workspace, namespace); None for all.

    Raises:
        UnavailableError: the new space's provider does not answer.
    """
    scope = Scope(migration.id, migration.workspaces, names)
    spec = service.spaces.spec(migration.target)
    different = await _differences(service, scope, migration.target, spec)
    cosines = await _cosines(service, scope, migration)
    compared = await compare_reads(service, scope, migration)
    failed = {
        name: reasons
        for name in {*different, *cosines}
        if (reasons := reasons_of(different.get(name, Difference()), cosines.get(name, ())))
    }
    async with service.pool.acquire() as connection, connection.transaction():
        totals = await verifying.total(connection, scope)
        figures = _figures(totals, different, cosines, compared, failed)
        told = {name: _told(reasons) for name, reasons in failed.items()}
        await verifying.conclude(connection, scope, told, figures)
    log.info("verified", migration=str(migration.id), ok=figures["ok"], failed=len(failed))
    return Verdict(figures["ok"], figures, failed)


async def _differences(
    service: Service, scope: Scope, space: int, spec: SpaceSpec
) -> dict[Name, Difference]:
    """Count what differs, again for a while: a restored or moved memory may be on its way."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        async with service.pool.acquire() as connection:
            found = await verifying.differences(connection, scope, space, spec, _YOUNG)
        if not found or asyncio.get_running_loop().time() > deadline:
            return found
        scope = Scope(scope.migration, scope.workspaces, list(found))
        await asyncio.sleep(_LOOK_S)


async def _cosines(service: Service, scope: Scope, migration: Migration) -> dict[Name, list[float]]:
    """Embed some texts again and hold them against what is stored, per namespace."""
    count = int(migration.options.get("sample") or SAMPLE)
    async with service.pool.acquire() as connection:
        sampled = await verifying.sample(connection, scope, migration.target, count)
    provider = service.spaces.provider(migration.target)
    again = await embed_all(provider, [one.content for one in sampled], "document")
    found: defaultdict[Name, list[float]] = defaultdict(list)
    for one, vector in zip(sampled, again, strict=True):
        if vector is not None:
            found[one.name].append(_cosine(one, vector))
    return dict(found)


def _cosine(one: Sampled, vector: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    stored = one.vector.astype(np.float64)
    fresh = vector.astype(np.float64)
    return float(stored @ fresh / (np.linalg.norm(stored) * np.linalg.norm(fresh)))


def _figures(
    totals: tuple[int, int],
    different: dict[Name, Difference],
    cosines: dict[Name, list[float]],
    compared: Comparison,
    failed: dict[Name, list[Reason]],
) -> dict[str, Any]:
    measured = [cosine for some in cosines.values() for cosine in some]
    sums = {
        kind: sum(getattr(one, kind) for one in different.values())
        for kind in ("missing", "dead", "extra", "bad", "mismatches")
    }
    return {
        "ok": not failed and not compared.reasons,
        "at": datetime.now(UTC).isoformat(),
        "namespaces": totals[0],
        "rows": totals[1],
        "failed": len(failed),
        **sums,
        "samples": len(measured),
        "least_cosine": round(min(measured), 4) if measured else None,
        **compared.figures,
        "reasons": [asdict(reason) for reason in compared.reasons],
        "notes": [asdict(note) for note in compared.notes],
        "failures": [
            {"workspace": str(name[0]), "namespace": name[1], **_told(reasons)}
            for name, reasons in sorted(failed.items())[:_LISTED]
        ],
    }


def _told(reasons: Sequence[Reason]) -> dict[str, Any]:
    return {"ok": False, "reasons": [asdict(reason) for reason in reasons]}
