"""Routes over the ledger of merges: what was absorbed by what, and undoing it."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram import metrics
from engram.storage import ledger, undoing
from engram.storage.connection import Connection, about
from engram.storage.undoing import Undone, unknown_merge
from engram_ingest import merges_schemas, schemas
from engram_ingest.authentication import Principal
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges_once import id_of, once
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["merges"])

_NEWEST = UUID(int=(1 << 128) - 1)
_START = UUID(int=0)


@router.get("/v1/merges", **schemas.answer(merges_schemas.MERGE_PAGE))
async def list_merges(
    request: Request,
    caller: MemoryCaller,
    run_id: Annotated[UUID | None, Query(description="Only of this run.")] = None,
    memory_id: Annotated[
        UUID | None, Query(description="Only those it survived or was absorbed by.")
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return merges, newest first, exact repeats among them."""
    before = decode_cursor(cursor, UUID, _NEWEST)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        found = await ledger.page(
            connection,
            caller.workspace,
            before=before,
            run_id=run_id,
            memory_id=memory_id,
            limit=limit + 1,
        )
    return json_response(orjson.dumps(page_of(found, limit, "id")))


@router.get("/v1/merges/{merge_id}", **schemas.answer(merges_schemas.MERGE))
async def show_merge(
    request: Request, merge_id: str, caller: MemoryCaller, cursor: str | None = None
) -> Response:
    """Return a merge with the texts of its survivor and its members, up to 500 of them at once."""
    after = decode_cursor(cursor, UUID, _START)
    wanted = id_of(merge_id, unknown_merge)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        shown = await ledger.show(connection, caller.workspace, wanted, after)
    page = page_of(shown["members"], ledger.MAX_MEMBERS, "memory_id")
    shown = {**shown, "members": page["items"], "next_cursor": page["next_cursor"]}
    return json_response(orjson.dumps(shown))


@router.post("/v1/merges/{merge_id}/undo", **schemas.answer(merges_schemas.UNDONE))
async def undo_merge(
    request: Request, merge_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Undo a merge: what it absorbed is itself again, edits and deletions since stay."""
    return await _undo(request, caller, idempotency_key, id_of(merge_id, unknown_merge), None)


@router.post(
    "/v1/merges/{merge_id}/members/{memory_id}/undo", **schemas.answer(merges_schemas.UNDONE)
)
async def undo_member(
    request: Request,
    merge_id: str,
    memory_id: str,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Undo a merge for one memory that it absorbed; the others stay absorbed."""
    merge, member = id_of(merge_id, unknown_merge), id_of(memory_id, unknown_merge)
    return await _undo(request, caller, idempotency_key, merge, member)


async def _undo(
    request: Request, caller: Principal, key: str | None, merge_id: UUID, member: UUID | None
) -> Response:
    async def work(connection: Connection) -> dict[str, Any]:
        done = await undoing.undo(
            connection,
            caller.workspace,
            merge_id,
            actor=caller.key_id,
            now=datetime.now(UTC),
            member=member,
        )
        return undone(done)

    return await once(request, caller, key, work)


def undone(done: Undone) -> dict[str, Any]:
    """Count what an undo brought back, and return it as the API shows it."""
    metrics.RESTORED.inc(len(done.restored))
    return {
        "restored": len(done.restored),
        "merges": len(done.merges),
        "left": {name: done.kept[name] for name in ("already", "deleted", "changed")},
    }
