"""Cutover and rollback: which namespaces and workspaces move, in which order, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from engram.errors import ConflictError
from engram.serving.process import Service
from engram.storage import cutting
from engram.storage.cutting import Name, Way
from engram.storage.migrating import Migration
from engram_migrator.defaults import Defaults
from engram_migrator.fenced import Move
from engram_migrator.releasing import abort, release

__all__ = ["Cut", "abort", "cut", "release", "rollback"]

log = structlog.get_logger(__name__)

PATIENCE_S: Final = 10.0
# Going back must not wait for a space that may be the reason to go back.
ROLLBACK_PATIENCE_S: Final = 2.0
_NAMES: Final = 500
# Of a namespace's newest vectors so many may not have reached the other space yet.
_TAIL: Final = 100
_DEFAULT_TAIL: Final = 20
_ROUNDS: Final = 3
_LISTED: Final = 5


@dataclass(slots=True)
class Cut:
    """What a cutover has done.

    Attributes:
        namespaces: that were moved now.
        workspaces: whose default was moved now.
        behind: namespaces that still read the old space, and what the new one lacks of each.
    """

    namespaces: int = 0
    workspaces: int = 0
    behind: dict[Name, int] = field(default_factory=dict)


async def cut(
    service: Service,
    migration: Migration,
    names: Sequence[Name] | None = None,
    *,
    patience_s: float = PATIENCE_S,
) -> Cut:
    """Let namespaces read the new space, each when nothing is lost by it.

    Without names all of the migration move, and then the defaults of its workspaces, and with them
    searches over several namespaces. What was moved stays moved; calling it again goes on.

    Raises:
        ConflictError: some namespaces did not converge, or the new space is retired.
    """
    way = Way(migration.source, migration.target)
    move = Move(service, migration.id, way, "cut_over", patience_s)
    async with service.pool.acquire() as connection:
        # Of somebody who died on it.
        await cutting.lift(connection)
        chosen = None if names is None else await cutting.known(connection, names)
    done = Cut()
    for _ in range(_ROUNDS):
        await _cut_names(move, migration, chosen, done)
        if chosen is not None or not await _cut_defaults(service, way, migration, done):
            break
    log.info("cut over", namespaces=done.namespaces, workspaces=done.workspaces)
    if done.behind:
        raise _not_converged(done, patience_s)
    return done


async def _cut_names(
    move: Move, migration: Migration, chosen: Sequence[Name] | None, done: Cut
) -> None:
    after: Name | None = None
    listed = list(chosen or ())
    while True:
        if chosen is None:
            async with move.service.pool.acquire() as connection:
                some = await cutting.page(
                    connection, migration.id, move.way.old, migration.workspaces, after, _NAMES
                )
        else:
            some, listed = listed[:_NAMES], listed[_NAMES:]
        if not some:
            return
        after = some[-1]
        outcome = await move.some(some)
        done.namespaces += len(outcome.flipped)
        for name in outcome.flipped:
            done.behind.pop(name, None)
        done.behind |= outcome.behind


async def _cut_defaults(service: Service, way: Way, migration: Migration, done: Cut) -> bool:
    """Move the defaults of workspaces that have nothing left; True when some were not ready.

    New namespaces may have come since: they follow the default, so they are looked at here.
    """
    behind = {workspace for workspace, _ in done.behind}
    moved, left = await Defaults(service, way, migration.workspaces, _TAIL).move(behind)
    done.workspaces += moved
    return left > 0


async def rollback(
    service: Service, migration: Migration, *, patience_s: float = ROLLBACK_PATIENCE_S
) -> Cut:
    """Let everything of the migration read the old space again.

    The old space was written all the time. It is given a moment for the newest writes, so that what
    was found a moment ago is found again; then the pointers move in any case.

    Raises:
        ConflictError: the old space is released.
    """
    way, done = Way(migration.target, migration.source), Cut()
    deadline = asyncio.get_running_loop().time() + patience_s
    async with service.pool.acquire() as connection:
        await cutting.lift(connection)
    defaults = Defaults(service, way, migration.workspaces, _DEFAULT_TAIL)
    done.workspaces, _ = await defaults.move(patience_s=patience_s, force=True)
    after: Name | None = None
    while some := await _overridden(service, way, migration, after):
        after = some[-1]
        left_s = max(0.0, deadline - asyncio.get_running_loop().time())
        await Move(service, migration.id, way, None, left_s).back(some, _TAIL)
        done.namespaces += len(some)
    async with service.pool.acquire() as connection:
        await cutting.note_back(connection, migration.id, way.new)
    log.info("rolled back", namespaces=done.namespaces, workspaces=done.workspaces)
    return done


async def _overridden(
    service: Service, way: Way, migration: Migration, after: Name | None
) -> list[Name]:
    async with service.pool.acquire() as connection:
        return await cutting.overridden(connection, way.old, migration.workspaces, after, _NAMES)


def _not_converged(done: Cut, patience_s: float) -> ConflictError:
    worst = sorted(done.behind.items(), key=lambda item: -item[1])[:_LISTED]
    listed = ", ".join(
        f"{name!r} of {workspace} ({missing})" for (workspace, name), missing in worst
    )
    return ConflictError(
        "not_converged",
        f"{len(done.behind)} namespaces still read the old space: within {patience_s:g} s the new "
        f"one did not have what the old one has. Missing most: {listed}.",
        cure="See that the new space's embedder keeps up and has no dead letters; cut over again.",
    )
