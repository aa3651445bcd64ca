"""Routes over proposals: two memories that may say the same, for a person to decide."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram import metrics
from engram.errors import Fault
from engram.storage import findings, proposals
from engram.storage.connection import Connection, about
from engram.storage.proposals import unknown_proposal
from engram_ingest import merges_schemas, schemas
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges_once import fields_of, id_of, invalid_decision, once
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["dedup"])

State = Literal["open", "accepted", "rejected"]
Namespace = Annotated[str | None, Query(max_length=256, description="Only of this namespace.")]
_START = UUID(int=0)


@router.get("/v1/dedup/proposals", **schemas.answer(merges_schemas.PROPOSAL_PAGE))
async def list_proposals(
    request: Request,
    caller: MemoryCaller,
    state: Annotated[State, Query(description="Open ones that can be decided, or past ones.")] = (
        "open"
    ),
    namespace: Namespace = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return proposals with both texts, oldest first."""
    return await findings_page(request, caller, "proposal", state, namespace, cursor, limit)


@router.get("/v1/dedup/proposals/{proposal_id}", **schemas.answer(merges_schemas.PROPOSAL))
async def show_proposal(request: Request, proposal_id: str, caller: MemoryCaller) -> Response:
    """Return one proposal."""
    wanted = id_of(proposal_id, unknown_proposal)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        row = await findings.find(connection, caller.workspace, "proposal", wanted)
    if row is None:
        raise unknown_proposal()
    return json_response(orjson.dumps(findings.described(row, "proposal")))


@router.post(
    "/v1/dedup/proposals/{proposal_id}/accept",
    **merges_schemas.optional_body(merges_schemas.ACCEPT, merges_schemas.ACCEPTED),
)
async def accept_proposal(
    request: Request,
    proposal_id: str,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Merge the two; the merge can be undone like any other."""
    wanted = id_of(proposal_id, unknown_proposal)
    fields, body = await fields_of(request, ("survivor",))
    survivor = _survivor(fields.get("survivor"))

    async def work(connection: Connection) -> dict[str, Any]:
        merge_id = await proposals.accept(
            connection,
            caller.workspace,
            wanted,
            survivor=survivor,
            actor=caller.key_id,
            now=datetime.now(UTC),
        )
        metrics.DECIDED.labels("proposal", "accepted").inc()
        return {"id": str(wanted), "state": "accepted", "merge_id": str(merge_id)}

    return await once(request, caller, idempotency_key, work, body)


@router.post("/v1/dedup/proposals/{proposal_id}/reject", **schemas.answer(merges_schemas.REJECTED))
async def reject_proposal(
    request: Request,
    proposal_id: str,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Keep the two apart; they are not proposed again until one of the texts changes."""
    wanted = id_of(proposal_id, unknown_proposal)

    async def work(connection: Connection) -> dict[str, Any]:
        await proposals.reject(
            connection, caller.workspace, wanted, actor=caller.key_id, now=datetime.now(UTC)
        )
        metrics.DECIDED.labels("proposal", "rejected").inc()
        return {"id": str(wanted), "state": "rejected"}

    return await once(request, caller, idempotency_key, work)


async def findings_page(
    request: Request,
    caller: MemoryCaller,
    kind: findings.Kind,
    state: str,
    namespace: str | None,
    cursor: str | None,
    limit: int,
) -> Response:
    """Answer with a page of proposals or conflicts."""
    after = decode_cursor(cursor, UUID, _START)
    # Postgres takes no U+0000, so no namespace holds one and none is found.
    wanted = namespace.replace("\0", "\N{REPLACEMENT CHARACTER}") if namespace else namespace
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        found = await findings.page(
            connection,
            caller.workspace,
            kind,
            state=state,
            namespace=wanted,
            after=after,
            limit=limit + 1,
        )
    return json_response(orjson.dumps(page_of(found, limit, "id")))


def _survivor(value: Any) -> UUID | None:
    if value is None:
        return None
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        fault = Fault("/survivor", "not_an_id", "must be the id of one of the two")
        raise invalid_decision(fault) from None
