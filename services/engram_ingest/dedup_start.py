"""Routes that begin a dedup run and show what a dry run would merge."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.domain.guard import RULE_VERSION
from engram.errors import Fault, InvalidError
from engram.storage import dedup_runs, deduplicating
from engram.storage.connection import Connection, about
from engram.storage.dedup_runs import unknown_run
from engram_ingest import merges_schemas, schemas
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges_once import fields_of, id_of, once
from engram_ingest.merges_runs import shown
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["dedup"])

# A run that no curator has touched for so long gives way to the next one.
_LEASE = timedelta(minutes=10)
_FIRST = UUID(int=0)
_MAX_NAMESPACE = 256

_TEXT: schemas.Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "content": {"type": ["string", "null"], "description": "As it is now; null when gone."},
    },
    "required": ["id", "content"],
    "additionalProperties": False,
}
_GROUP: schemas.Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "namespace": {"type": "string"},
        "survivor": _TEXT,
        "members": {"type": "array", "items": _TEXT, "maxItems": 20},
        "member_count": {"type": "integer"},
    },
    "required": ["id", "namespace", "survivor", "members", "member_count"],
    "additionalProperties": False,
}
PREVIEW_PAGE: schemas.Schema = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": _GROUP},
        "next_cursor": {"type": ["string", "null"]},
    },
    "required": ["items", "next_cursor"],
    "additionalProperties": False,
}
START: schemas.Schema = {
    "type": "object",
    "properties": {
        "namespace": {"type": ["string", "null"], "description": "Only this one."},
        "dry_run": {"type": "boolean", "description": "Change nothing; say what would be merged."},
        "max_share": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "Most of a namespace's memories that may be merged; default 0.5.",
        },
        "max_merged": {
            "type": ["integer", "null"],
            "minimum": 1,
            "description": "Most memories that the run may absorb; it ends when it would be more.",
        },
        "full": {"type": "boolean", "description": "Compare all, not only what is new."},
    },
    "additionalProperties": False,
}
_STARTED: schemas.Schema = {
    **merges_schemas.RUN,
    "properties": {
        **merges_schemas.RUN["properties"],
        "begun": {"type": "boolean", "description": "False: this one was running already."},
    },
    "required": [*merges_schemas.RUN["required"], "begun"],
}


@router.post("/v1/dedup/runs", **merges_schemas.optional_body(START, _STARTED))
async def start_run(
    request: Request, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Begin a dedup run, or join the one that is running: two at once are one."""
    given, body = await fields_of(request, START["properties"])
    options = _options(given)
    cap = options.pop("max_merged", None)

    async def work(connection: Connection) -> dict[str, Any]:
        run, begun = await dedup_runs.begin(
            connection, caller.workspace, actor=caller.key_id, options=options,
            rule_version=RULE_VERSION, merge_cap=cap, lease=_LEASE,
        )  # fmt: skip
        return {**shown(run), "begun": begun}

    return await once(request, caller, idempotency_key, work, body)


@router.get("/v1/dedup/runs/{run_id}/preview", **schemas.answer(PREVIEW_PAGE))
async def preview_run(
    request: Request,
    run_id: str,
    caller: MemoryCaller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return the groups that a dry run would merge, with their texts as they are now."""
    wanted = id_of(run_id, unknown_run)
    after = decode_cursor(cursor, UUID, _FIRST)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        await dedup_runs.show(connection, caller.workspace, wanted)
        found = await deduplicating.preview_page(
            connection, caller.workspace, wanted, after, limit + 1
        )
    return json_response(orjson.dumps(page_of(found, limit, "id")))


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say something.

    Raises:
        InvalidError: naming those that cannot be taken.
    """
    said = {name: value for name, value in given.items() if value is not None}
    faults = [
        Fault(f"/{name}", "invalid_option", _TAKES[name])
        for name, value in said.items()
        if not _fits(name, value)
    ]
    if faults:
        raise InvalidError(
            "invalid_option",
            "The options of the run cannot be taken.",
            cure="docs/dedup-runs.md lists them.",
            faults=tuple(faults),
        )
    return {name: value for name, value in said.items() if value is not False}


_TAKES = {
    "namespace": f"must be a text of 1 to {_MAX_NAMESPACE} characters",
    "dry_run": "must be true or false",
    "full": "must be true or false",
    "max_share": "must be a number above 0 and at most 1",
    "max_merged": "must be a whole number from 1 on",
}


def _fits(name: str, value: object) -> bool:
    if name == "namespace":
        return isinstance(value, str) and 0 < len(value) <= _MAX_NAMESPACE
    if isinstance(value, bool):
        return name in ("dry_run", "full")
    if name == "max_share":
        return isinstance(value, int | float) and 0 < value <= 1
    return name == "max_merged" and isinstance(value, int) and 0 < value < 2**31
