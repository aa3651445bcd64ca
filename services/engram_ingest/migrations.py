"""Routes about spaces and migrations: plan them, see how far they are, change their options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.domain.migration_request import PlanRequest, decode_options, decode_plan
from engram.errors import ConflictError, NotFoundError
from engram.storage import backfilling, migrating, spaces
from engram.storage.connection import Connection, reachable
from engram.storage.migrating import Migration, NewMigration, unknown_migration
from engram.storage.spaces import Space
from engram_ingest import migrations_schemas, schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import Caller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges_once import id_of, once_in_parts
from engram_ingest.migrations_plan import plan
from engram_ingest.migrations_views import (
    shown_migration,
    shown_mismatch,
    shown_namespace,
    shown_space,
)
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["migrations"])

_NEWEST = UUID(int=(1 << 128) - 1)
_SEPARATOR = " "
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/v1/spaces", **schemas.answer(migrations_schemas.SPACE_PAGE))
async def list_spaces(request: Request, caller: Caller) -> Response:
    """Return the vector spaces of the system: sizes, and how much reads each."""
    caller.require("operator")
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        known = await spaces.all_spaces(connection)
        sizes = {row["id"]: row for row in await backfilling.space_sizes(connection)}
    items = [shown_space(space, sizes[space.id]) for space in known if space.id in sizes]
    return json_response(orjson.dumps({"items": items, "next_cursor": None}))


@router.post(
    "/v1/migrations",
    status_code=201,
    **schemas.body(migrations_schemas.NEW_PLAN, migrations_schemas.MIGRATION, 201),
)
async def plan_migration(
    request: Request, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Plan a migration: what it will take and what would block it. Nothing else is changed."""
    caller.require("operator")
    value, body = await read_json(request)
    asked = decode_plan(value)

    async def work() -> dict[str, Any]:
        return await _planned(request, caller, asked)

    return await once_in_parts(request, caller, idempotency_key, work, body, 201)


async def _planned(request: Request, caller: Principal, asked: PlanRequest) -> dict[str, Any]:
    service = doors_of(request).service
    async with reachable(), service.pool.acquire() as connection:
        chosen = await workspaces_named(connection, asked.workspaces)
        source = await _source(connection, chosen)
    found = await plan(service, asked, chosen, source)
    async with reachable(), service.pool.acquire() as connection, connection.transaction():
        known = {space.spec: space.id for space in await spaces.all_spaces(connection)}
        new = NewMigration(
            source_space=source.id,
            target_space=known.get(asked.target),
            source_key=source.spec.key,
            target_key=asked.target.key,
            workspaces=chosen,
            home=caller.workspace,
            actor=caller.key_id,
            options=asked.options,
            plan=found.described(),
        )
        made = await migrating.create(connection, new)
        return await shown(connection, made)


async def workspaces_named(
    connection: Connection, named: tuple[str, ...] | None
) -> list[UUID] | None:
    """Return the ids of workspaces, given by id or name; None for None.

    Raises:
        NotFoundError: one is not known.
    """
    if named is None:
        return None
    found = await backfilling.find_workspaces(connection, named)
    missing = [name for name in named if name not in found]
    if missing:
        raise NotFoundError(
            "workspace_not_found",
            f"{len(missing)} of the workspaces are not known.",
            cure="Name workspaces by id, or by the name that `engram status` shows.",
        )
    return sorted(set(found.values()))


async def _source(connection: Connection, workspaces: list[UUID] | None) -> Space:
    """Return the space that these workspaces read: one, for a migration has one source."""
    read = await backfilling.read_spaces(connection, workspaces)
    known = {space.id: space for space in await spaces.all_spaces(connection)}
    if len(read) != 1 or read[0] not in known:
        raise ConflictError(
            "several_sources",
            f"The workspaces read {len(read)} different spaces.",
            cure="Name workspaces that read the same space (`engram spaces list`).",
        )
    return known[read[0]]


@router.get("/v1/migrations", **schemas.answer(migrations_schemas.MIGRATION_PAGE))
async def list_migrations(
    request: Request, caller: Caller, cursor: str | None = None, limit: Limit = 50
) -> Response:
    """Return the migrations, newest first."""
    caller.require("operator")
    before = decode_cursor(cursor, UUID, _NEWEST)
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        found = await migrating.page(connection, before, limit + 1)
        items = [shown_migration(one, await migrating.states(connection, one.id)) for one in found]
    return json_response(orjson.dumps(page_of(items, limit, "id")))


@router.get("/v1/migrations/{migration_id}", **schemas.answer(migrations_schemas.MIGRATION))
async def show_migration(request: Request, migration_id: str, caller: Caller) -> Response:
    """Return one migration: phase, progress, verdict, and why it does not go on."""
    caller.require("operator")
    found = id_of(migration_id, unknown_migration)
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        return json_response(orjson.dumps(await shown(connection, found)))


@router.patch(
    "/v1/migrations/{migration_id}",
    **schemas.body(migrations_schemas.OPTIONS, migrations_schemas.MIGRATION),
)
async def change_migration(request: Request, migration_id: str, caller: Caller) -> Response:
    """Change options, also while the backfill runs: it follows within a second."""
    caller.require("operator")
    value, _ = await read_json(request)
    options = decode_options(value)
    found = id_of(migration_id, unknown_migration)
    service = doors_of(request).service
    async with reachable(), service.pool.acquire() as connection:
        async with connection.transaction():
            migration = await migrating.lock(connection, found)
            if migration.phase in ("released", "aborted"):
                raise _over(migration)
            await migrating.set_options(connection, migration, caller.key_id, options)
        service.relay.wake()
        return json_response(orjson.dumps(await shown(connection, found)))


def _over(migration: Migration) -> ConflictError:
    return ConflictError(
        "migration_over",
        f"The migration is {migration.phase}: nothing can be done with it any more.",
        cure="Plan another one (`engram migrate plan --to …`).",
    )


@router.get(
    "/v1/migrations/{migration_id}/namespaces",
    **schemas.answer(migrations_schemas.NAMESPACE_PAGE),
)
async def list_namespaces(
    request: Request,
    migration_id: str,
    caller: Caller,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Response:
    """Return the namespaces of a migration: how far each is, and its verdict."""
    caller.require("operator")
    found = id_of(migration_id, unknown_migration)
    after = decode_cursor(cursor, _pair(str), (UUID(int=0), ""))
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        await migrating.read(connection, found)
        rows = await migrating.namespaces(connection, found, after=after, limit=limit + 1)
    items = [shown_namespace(dict(row)) for row in rows]
    return json_response(orjson.dumps(_page(items, limit, "namespace")))


@router.get(
    "/v1/migrations/{migration_id}/mismatches",
    **schemas.answer(migrations_schemas.MISMATCH_PAGE),
)
async def list_mismatches(
    request: Request,
    migration_id: str,
    caller: Caller,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Response:
    """Return memories that the target's provider gave up: they keep a namespace from verifying."""
    caller.require("operator")
    found = id_of(migration_id, unknown_migration)
    after = decode_cursor(cursor, _pair(UUID), (UUID(int=0), UUID(int=0)))
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        migration = await migrating.read(connection, found)
        rows: list[dict[str, Any]] = []
        if migration.target_space is not None:
            rows = await backfilling.dead(connection, migration, after, limit + 1)
    items = [shown_mismatch(row) for row in rows]
    return json_response(orjson.dumps(_page(items, limit, "memory_id")))


def _pair(read: Callable[[str], Any]) -> Callable[[str], tuple[UUID, Any]]:
    def pair(text: str) -> tuple[UUID, Any]:
        workspace, _, rest = text.partition(_SEPARATOR)
        return UUID(workspace), read(rest)

    return pair


def _page(items: list[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    keyed = [{**item, "key": f"{item['workspace']}{_SEPARATOR}{item[key]}"} for item in items]
    page = page_of(keyed, limit, "key")
    page["items"] = items[:limit]
    return page


async def shown(connection: Connection, migration_id: UUID) -> dict[str, Any]:
    """Return a migration in its public shape.

    Raises:
        NotFoundError: there is no such one.
    """
    migration = await migrating.read(connection, migration_id)
    return shown_migration(migration, await migrating.states(connection, migration_id))
