"""What a verification reads and writes: differences, samples, and what was found of namespaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from engram.domain.spaces import SpaceSpec
from engram.domain.verifying import Difference
from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement

Name = tuple[UUID, str]
# Every vector is looked at: two thousand bytes each.
_COMPARE_TIMEOUT_S = 1_800.0
_SAMPLE_TIMEOUT_S = 600.0
# So many times as many pages as would do, since not every row of a page counts.
_GENEROUS = 20.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a migration is verified.

    Attributes:
        migration: whose namespaces.
        workspaces: of the migration, None for all.
        names: only these (workspace, namespace), None for all of them.
    """

    migration: UUID
    workspaces: Sequence[UUID] | None
    names: Sequence[Name] | None = None

    @property
    def listed(self) -> tuple[list[UUID] | None, list[str] | None]:
        """The names as two lists, as statements take them."""
        if self.names is None:
            return None, None
        return [workspace for workspace, _ in self.names], [name for _, name in self.names]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A memory and its vector in the new space: (d,) halves."""

    name: Name
    id: UUID
    version: int
    content: str
    vector: NDArray[np.float16]


async def differences(
    connection: Connection, scope: Scope, space: int, spec: SpaceSpec, young: timedelta
) -> dict[Name, Difference]:
    """Count what differs between live memories and their vectors in a space, per namespace.

    The counts are written into the namespaces' verdicts.

    Args:
        connection: of the worker role.
        scope: which namespaces.
        space: id of the space.
        spec: of it.
        young: memories changed within this time need not have their vector yet.

    Returns:
        Of the namespaces that differ.
    """
    within = statement("verifying", "of_workspaces" if scope.names is None else "of_names")
    sql = statement("verifying", "compare").replace(
        "{differences}", over_vectors("verifying", "differences", space)
    )
    owners, names = scope.listed
    rows = await connection.fetch(
        sql.replace("{within}", within), spec.dimensions, spec.normalised, young, space,
        owners if scope.names is not None else _maybe(scope.workspaces), names, scope.migration,
        timeout=_COMPARE_TIMEOUT_S,
    )  # fmt: skip
    return {
        (row["workspace"], row["namespace"]): Difference(
            row["rows"], row["missing"], row["dead"], row["extra"], row["bad"]
        )
        for row in rows
    }


def _maybe(workspaces: Sequence[UUID] | None) -> list[UUID] | None:
    return None if workspaces is None else list(workspaces)


async def total(connection: Connection, scope: Scope) -> tuple[int, int]:
    """Return how many namespaces a migration knows, and how many memories they hold."""
    sql = statement("verifying", "total")
    row = await connection.fetchrow(sql, scope.migration, *scope.listed)
    return (row["namespaces"], row["rows"]) if row else (0, 0)


async def sample(connection: Connection, scope: Scope, space: int, count: int) -> list[Sampled]:
    """Return some memories by chance that have a current vector in a space."""
    known = int(await connection.fetchval(statement("verifying", "memories")))
    share = min(100.0, 100.0 * _GENEROUS * count / max(known, 1))
    found = await _sample(connection, scope, space, count, share)
    if len(found) < count and share < 100.0:
        found = await _sample(connection, scope, space, count, 100.0)
    return [
        Sampled(
            (row["workspace"], row["namespace"]), row["id"], row["version"], row["content"],
            row["embedding"].to_numpy(),
        )
        for row in found
    ]  # fmt: skip


async def _sample(
    connection: Connection, scope: Scope, space: int, count: int, share: float
) -> list[asyncpg.Record]:
    sql = over_vectors("verifying", "sample", space).replace("{share}", f"{share:.6f}")
    return await connection.fetch(
        sql, _maybe(scope.workspaces), *scope.listed, count, timeout=_SAMPLE_TIMEOUT_S
    )


async def conclude(
    connection: Connection,
    scope: Scope,
    failed: Mapping[Name, dict[str, Any]],
    verdict: Mapping[str, Any],
) -> None:
    """Write down what came of every namespace, and the verdict on the migration.

    Args:
        connection: in a transaction of the worker role.
        scope: which namespaces.
        failed: what is held against some; the others have passed unless the verdict is no for all.
        verdict: on the migration; ``reasons`` holds what is true of all.
    """
    owners, names = [w for w, _ in failed], [n for _, n in failed]
    if verdict["reasons"]:
        said = {"ok": False, "reasons": verdict["reasons"]}
        sql = statement("verifying", "all_failed")
        await connection.execute(sql, scope.migration, *scope.listed, said)
    else:
        sql = statement("verifying", "passed")
        none = not failed
        await connection.execute(sql, scope.migration, *scope.listed, owners, names, none)
    if failed:
        sql = statement("verifying", "failed")
        await connection.execute(sql, scope.migration, owners, names, list(failed.values()))
    await connection.execute(statement("verifying", "keep"), scope.migration, dict(verdict))
