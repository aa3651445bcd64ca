"""The verbs of a migration: what may not be done is refused, the rest is left to the migrator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from engram import strictjson
from engram.domain.migrating import VERBS, Verb, is_done, may
from engram.domain.migration_request import Choice, decode_choice
from engram.errors import NotFoundError
from engram.storage import migrating, migration_wishes
from engram.storage.connection import Connection, reachable
from engram.storage.migrating import Name, unknown_migration
from engram_ingest import migrations_schemas, schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_body
from engram_ingest.dependencies import Caller, doors_of
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges_once import id_of, once_in_parts
from engram_ingest.migrations import shown, workspaces_named

router = APIRouter(tags=["migrations"])


@router.post(
    "/v1/migrations/{migration_id}/{verb}",
    **schemas.body(migrations_schemas.CHOICE, migrations_schemas.MIGRATION),
)
async def ask(
    request: Request,
    migration_id: str,
    verb: str,
    caller: Caller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start, pause, resume, verify, cutover, rollback, release or abort.

    Pause and resume are done at once; the others are left to the migrator, which `wish` names until
    it has done them. Asking for what is done already changes nothing.
    """
    caller.require("operator")
    found, wanted = id_of(migration_id, unknown_migration), _verb(verb)
    body = await read_body(request)
    choice = decode_choice(strictjson.loads(body) if body.strip() else {})

    async def work() -> dict[str, Any]:
        async with reachable(), doors_of(request).service.pool.acquire() as connection:
            names = await _names(connection, caller, choice, found)
            async with connection.transaction():
                await _asked(connection, found, wanted, caller, choice, names)
            return await shown(connection, found)

    return await once_in_parts(request, caller, idempotency_key, work, body)


def _verb(text: str) -> Verb:
    for verb in VERBS:
        if verb == text:
            return verb
    raise NotFoundError(
        "verb_not_found",
        "A migration knows no such verb.",
        cure="Known: start, pause, resume, verify, cutover, rollback, release, abort.",
    )


async def _asked(
    connection: Connection,
    migration_id: UUID,
    verb: Verb,
    caller: Principal,
    choice: Choice,
    names: list[Name] | None,
) -> None:
    migration = await migrating.lock(connection, migration_id)
    facts = await migrating.facts(connection, migration, names)
    refusal = may(facts, verb)
    if refusal is not None:
        raise refusal
    if is_done(facts, verb):
        return
    if verb in ("pause", "resume"):
        await migrating.set_paused(connection, migration, caller.key_id, paused=verb == "pause")
        return
    if verb == "verify" and choice.judged:
        judged = _judged(choice.judged, await _workspace(connection, caller, choice))
        await migrating.keep_options(connection, migration.id, {"judged": judged})
    if migration.wish is None or migration.wish["verb"] != verb:
        await migration_wishes.make_wish(connection, migration, _wish(verb, caller, names))


def _judged(queries: Sequence[dict[str, Any]], workspace: UUID) -> list[dict[str, Any]]:
    return [{"namespace": None, **query, "workspace": str(workspace)} for query in queries]


def _wish(verb: Verb, caller: Principal, names: list[Name] | None) -> dict[str, Any]:
    listed = None
    if names is not None:
        listed = [{"workspace": str(w), "namespace": n} for w, n in names]
    return {
        "verb": verb,
        "namespaces": listed,
        "actor": caller.key_id,
        "at": datetime.now(UTC).isoformat(),
    }


async def _workspace(connection: Connection, caller: Principal, choice: Choice) -> UUID:
    """Return the workspace that is meant: the one named, or the caller's own."""
    if choice.workspace is None:
        return caller.workspace
    [found] = await workspaces_named(connection, (choice.workspace,)) or [caller.workspace]
    return found


async def _names(
    connection: Connection, caller: Principal, choice: Choice, migration_id: UUID
) -> list[Name] | None:
    """Return the namespaces that were chosen, None for all of the migration."""
    if choice.workspace is None and choice.namespaces is None:
        return None
    workspace = await _workspace(connection, caller, choice)
    rows = await migrating.namespaces(connection, migration_id, after=(workspace, ""))
    known = [row["namespace"] for row in rows if row["workspace"] == workspace]
    if choice.namespaces is None:
        return [(workspace, name) for name in known]
    if any(name not in known for name in choice.namespaces):
        raise _unknown_namespace()
    return [(workspace, name) for name in choice.namespaces]


def _unknown_namespace() -> NotFoundError:
    return NotFoundError(
        "namespace_not_found",
        "A namespace is not part of the migration.",
        cure="See GET /v1/migrations/{id}/namespaces.",
    )
