"""The audit route: what was done in the workspace, by whom, and how much of it."""

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.domain.fields import FieldError, check_time
from engram.domain.memory import invalid
from engram.errors import Fault
from engram.storage import auditing
from engram.storage.connection import about
from engram_ingest import schemas
from engram_ingest.dependencies import Caller, doors_of, json_response
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["audit"])
_NEWEST = UUID(int=(1 << 128) - 1)
_KIND = re.compile(r"[a-z][a-z_]{0,31}")


@router.get("/v1/audit", **schemas.answer(schemas.AUDIT_PAGE))
async def list_audit(
    request: Request,
    caller: Caller,
    kind: Annotated[
        str | None, Query(description="First word of the action: memory, key, import, export, …")
    ] = None,
    since: Annotated[str | None, Query(description="Only from this time on.")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return the audit trail, newest first."""
    caller.require("operator")
    before = decode_cursor(cursor, UUID, _NEWEST)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        entries = await auditing.page(
            connection,
            caller.workspace,
            before=before,
            kind=_kind(kind),
            since=_since(since),
            limit=limit + 1,
        )
    return json_response(orjson.dumps(page_of(entries, limit, "id")))


def _kind(kind: str | None) -> str | None:
    if kind is not None and not _KIND.fullmatch(kind):
        detail = "must be the first word of an action, such as export"
        raise invalid([Fault("/kind", "unknown_value", detail)])
    return kind


def _since(since: str | None) -> datetime | None:
    try:
        return check_time(since)
    except FieldError as error:
        raise invalid([Fault("/since", error.code, str(error))]) from None
