"""The end of a migration: the old space is dropped (release), or the new one (abort)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from engram.errors import ConflictError, UnavailableError
from engram.serving.process import Service
from engram.storage import cutting, releasing
from engram.storage.cutting import Way
from engram.storage.migrating import Migration
from engram.storage.releasing import Readers
from engram_migrator.defaults import Defaults
from engram_migrator.fenced import Move

log = structlog.get_logger(__name__)

_NAMES: Final = 500
_TAIL: Final = 100
_DROP_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.1


async def release(service: Service, migration: Migration) -> None:
    """Drop the old space once nothing reads it; calling it again after a crash goes on.

    Raises:
        ConflictError: something reads the old space.
        UnavailableError: its table is in use all the time; try again.
    """
    if migration.source_space is None:
        return
    space = migration.source
    async with service.pool.acquire() as connection:
        state = await releasing.state(connection, space)
        found = await releasing.readers(connection, space, migration.id, migration.workspaces)
    if state == "active":
        await _move_last_defaults(service, migration, found)
    await _remove(service, migration, space)
    log.info("space released", space=migration.source_key)


async def _move_last_defaults(service: Service, migration: Migration, found: Readers) -> None:
    """Move defaults whose namespaces were all cut over one by one, and see that nothing is left."""
    if found.workspaces and not found.namespaces and not found.strangers:
        way = Way(migration.source, migration.target)
        await Defaults(service, way, migration.workspaces, _TAIL).move()
        async with service.pool.acquire() as connection:
            found = await releasing.readers(
                connection, migration.source, migration.id, migration.workspaces
            )
    _refuse(found)


async def abort(service: Service, migration: Migration) -> None:
    """Let nothing read the new space, and drop it if the migration made it.

    Raises:
        ConflictError: something reads the new space that is not of this migration.
        UnavailableError: its table is in use all the time; try again.
    """
    if migration.target_space is None:
        return
    way = Way(migration.target, migration.source)
    while True:
        # They read it early, through an adapter.
        async with service.pool.acquire() as connection:
            names = await cutting.overridden(
                connection, way.old, migration.workspaces, None, _NAMES
            )
        if not names:
            break
        await Move(service, migration.id, way, None, patience_s=0).back(names, 0)
    if migration.target_made:
        await _remove(service, migration, migration.target)
    log.info("migration aborted", space=migration.target_key)


async def _remove(service: Service, migration: Migration, space: int) -> None:
    """Retire a space, so that stores refuse, and then drop its table."""
    async with service.pool.acquire() as connection:
        state = await releasing.state(connection, space)
        if state == "active":
            async with connection.transaction():
                _refuse(
                    await releasing.retire(connection, space, migration.id, migration.workspaces)
                )
    if state is not None:
        await _drop(service, space)


async def _drop(service: Service, space: int) -> None:
    """Drop the table of a retired space, as soon as nobody looks at it for a moment."""
    deadline = asyncio.get_running_loop().time() + _DROP_PATIENCE_S
    while asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(cutting.HeldError):
            async with cutting.impatient(service.pool) as connection, connection.transaction():
                await releasing.drop(connection, space)
            return
        await asyncio.sleep(_LOOK_S)
    raise UnavailableError(
        "space_in_use",
        f"The vectors of space {space} are in use all the time: an index may be being built.",
        cure="It is tried again by itself.",
        retry_after_s=10,
    )


def _refuse(found: Readers) -> None:
    """Refuse while something reads the space.

    Raises:
        ConflictError: saying what it is.
    """
    reasons = [
        f"{count} {what}"
        for count, what in (
            (found.namespaces, "namespaces read it"),
            (found.workspaces, "workspaces read it by default"),
            (found.comparisons, "namespaces are being compared in it by a dedup run"),
            (found.migrations, "other migrations are under way from or to it"),
        )
        if count
    ]
    if reasons:
        raise ConflictError(
            "space_still_read",
            f"The space cannot be dropped: {', '.join(reasons)}.",
            cure=_cure(found),
        )


def _cure(found: Readers) -> str:
    if found.strangers:
        return "Migrate the other workspaces as well: they read the same space."
    if found.namespaces or found.workspaces:
        return "Cut over all namespaces first (`engram migrate cutover`)."
    return "Wait until that has ended."
