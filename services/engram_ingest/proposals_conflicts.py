"""Routes over conflicts: two memories that contradict each other, for a person to decide."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram import metrics
from engram.errors import Fault
from engram.storage import conflicts, findings
from engram.storage.conflicts import unknown_conflict
from engram.storage.connection import Connection, about
from engram_ingest import merges_schemas, schemas
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges_once import fields_of, id_of, invalid_decision, once
from engram_ingest.proposals import Namespace, findings_page

router = APIRouter(tags=["dedup"])

State = Literal["open", "resolved"]


@router.get("/v1/dedup/conflicts", **schemas.answer(merges_schemas.CONFLICT_PAGE))
async def list_conflicts(
    request: Request,
    caller: MemoryCaller,
    state: Annotated[State, Query(description="Open ones that can be decided, or past ones.")] = (
        "open"
    ),
    namespace: Namespace = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return conflicts with both texts and which is newer, oldest first."""
    return await findings_page(request, caller, "conflict", state, namespace, cursor, limit)


@router.get("/v1/dedup/conflicts/{conflict_id}", **schemas.answer(merges_schemas.CONFLICT))
async def show_conflict(request: Request, conflict_id: str, caller: MemoryCaller) -> Response:
    """Return one conflict."""
    wanted = id_of(conflict_id, unknown_conflict)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        row = await findings.find(connection, caller.workspace, "conflict", wanted)
    if row is None:
        raise unknown_conflict()
    return json_response(orjson.dumps(findings.described(row, "conflict")))


@router.post(
    "/v1/dedup/conflicts/{conflict_id}/resolve",
    **schemas.body(merges_schemas.RESOLVE, merges_schemas.RESOLVED),
)
async def resolve_conflict(
    request: Request,
    conflict_id: str,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Close a conflict: what is not kept becomes superseded and is no longer found."""
    wanted = id_of(conflict_id, unknown_conflict)
    fields, body = await fields_of(request, ("keep",))
    keep = fields.get("keep")
    if not isinstance(keep, str):
        code = "wrong_type" if "keep" in fields else "missing"
        raise invalid_decision(Fault("/keep", code, "must be both, newer, older, or an id"))

    async def work(connection: Connection) -> dict[str, Any]:
        kept = await conflicts.resolve(
            connection,
            caller.workspace,
            wanted,
            keep=keep,
            actor=caller.key_id,
            now=datetime.now(UTC),
        )
        metrics.DECIDED.labels("conflict", "resolved").inc()
        return {"id": str(wanted), "state": "resolved", "kept": str(kept) if kept else None}

    return await once(request, caller, idempotency_key, work, body)


@router.post("/v1/dedup/conflicts/{conflict_id}/undo", **schemas.answer(merges_schemas.REJECTED))
async def reopen_conflict(
    request: Request,
    conflict_id: str,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take a resolution back: what it superseded is live again, and the conflict is open."""
    wanted = id_of(conflict_id, unknown_conflict)

    async def work(connection: Connection) -> dict[str, Any]:
        await conflicts.reopen(
            connection, caller.workspace, wanted, actor=caller.key_id, now=datetime.now(UTC)
        )
        metrics.DECIDED.labels("conflict", "reopened").inc()
        return {"id": str(wanted), "state": "open"}

    return await once(request, caller, idempotency_key, work)
