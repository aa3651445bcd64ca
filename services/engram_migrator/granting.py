"""Grants one wish: checks its condition again, does it, and enters the phase that it leads to."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from engram.domain.migrating import VERBS, Phase, Verb, is_done, may, reached
from engram.errors import ConflictError
from engram.serving.process import Service
from engram.storage import migrating, migration_wishes
from engram.storage.migrating import Migration, Name
from engram_migrator import cutover, verify
from engram_migrator.starting import start

_ENDS: Final[dict[Verb, Phase]] = {"release": "released", "abort": "aborted"}


async def grant(service: Service, migration: Migration) -> None:
    """Do what is wished of a migration; doing it again after a crash changes nothing more.

    Raises:
        ConflictError: its condition does not hold (any more).
        EngramError: it cannot be done, and why.
    """
    wish = migration.wish
    if wish is None:
        return
    verb, names, actor = _verb(wish), _names(wish), str(wish.get("actor", "migrator"))
    async with service.pool.acquire() as connection:
        facts = await migrating.facts(connection, migration, names)
    refusal = may(facts, verb)
    if refusal is not None:
        raise refusal
    if not is_done(facts, verb):
        await _do(service, migration, verb, names, actor)
    await _settle(service, migration, verb, actor)
    service.relay.wake()


async def _do(
    service: Service, migration: Migration, verb: Verb, names: list[Name] | None, actor: str
) -> None:
    match verb:
        case "start":
            await start(service, migration, actor)
        case "verify":
            await verify.run(service, migration, names)
        case "cutover":
            await cutover.cut(service, migration, names)
        case "rollback":
            await cutover.rollback(service, migration)
        case "release":
            await cutover.release(service, migration)
        case "abort":
            # What was only planned has nothing to take back.
            if migration.target_space is not None and migration.phase != "planned":
                await cutover.abort(service, migration)
        case _:
            raise AssertionError(verb)


async def _settle(service: Service, migration: Migration, verb: Verb, actor: str) -> None:
    """Enter the phase that what was done leads to, and forget the wish, in one transaction."""
    async with service.pool.acquire() as connection, connection.transaction():
        current = await migrating.lock(connection, migration.id)
        facts = await migrating.facts(connection, current)
        after = _ENDS.get(verb) or reached(facts)
        counts: dict[str, Any] = dict(facts.namespaces)
        if verb == "rollback":
            await migrating.tell(connection, current, "rolled_back", actor, counts)
            if current.options.get("adapter"):
                # Else the next turn would read early again what has just gone back.
                await migrating.set_options(connection, current, actor, {"adapter": False})
        await migrating.enter(connection, current, after, actor=actor, counts=counts)
        await migration_wishes.fulfil(connection, migration)


def _verb(wish: dict[str, Any]) -> Verb:
    for verb in VERBS:
        if verb == wish.get("verb"):
            return verb
    raise ConflictError("unknown_verb", "The wish names no verb.", cure="Ask again.")


def _names(wish: dict[str, Any]) -> list[Name] | None:
    listed = wish.get("namespaces")
    if listed is None:
        return None
    return [(UUID(one["workspace"]), one["namespace"]) for one in listed]
