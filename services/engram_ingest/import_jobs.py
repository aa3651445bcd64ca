"""Routes over import jobs: how far they are, what failed, and ending or undoing them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from engram.errors import ConflictError
from engram.storage import importing, staging
from engram.storage.connection import Pool, about
from engram.storage.contention import until_won
from engram.storage.importing import ItemError, Job, unknown_import
from engram_ingest import import_schemas, schemas
from engram_ingest.authentication import Principal
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.import_views import shown
from engram_ingest.import_work import record
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["import"])

_LAST = UUID(int=(1 << 128) - 1)
_ERRORS = 1_000


@router.get("/v1/imports", **schemas.answer(import_schemas.IMPORT_PAGE))
async def list_imports(
    request: Request,
    caller: MemoryCaller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return imports that became a job, newest first; `embedded` is told of single ones only."""
    before = decode_cursor(cursor, UUID, _LAST)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        jobs = await importing.page(connection, caller.workspace, before, limit + 1)
    items = [_without_vectors(shown(job)) for job in jobs]
    return json_response(orjson.dumps(page_of(items, limit, "id")))


def _without_vectors(job: dict[str, Any]) -> dict[str, Any]:
    return {**job, "embedded": None, "pending": None}


@router.get("/v1/imports/{import_id}", **schemas.answer(import_schemas.IMPORT))
async def show_import(request: Request, import_id: str, caller: MemoryCaller) -> Response:
    """Return how far an import is."""
    return await _shown(request, caller, _as_id(import_id))


@router.get("/v1/imports/{import_id}/errors", **import_schemas.ndjson(import_schemas.IMPORT_ERROR))
async def import_errors(request: Request, import_id: str, caller: MemoryCaller) -> Response:
    """Return why items were not taken, one a line, in the order of the file."""
    pool, job = doors_of(request).pool, _as_id(import_id)
    async with about(pool, [caller.workspace]) as connection:
        await importing.show(connection, caller.workspace, job)
    lines = _error_lines(pool, caller.workspace, job)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.post("/v1/imports/{import_id}/cancel", **schemas.answer(import_schemas.IMPORT))
async def cancel_import(request: Request, import_id: str, caller: MemoryCaller) -> Response:
    """End an import that waits or runs; what it has stored stays."""
    job_id = _as_id(import_id)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        ended = await importing.cancel(connection, caller.workspace, job_id)
        job = await importing.show(connection, caller.workspace, job_id)
        if ended and not job.options["dry_run"]:
            counts = {name: number for name, number in job.report["counts"].items() if number}
            await record(connection, job, caller.key_id, "cancelled", counts)
    if not ended and job.state != "cancelled":
        raise ConflictError(
            "import_ended",
            f"The import has ended already: {job.state}.",
            cure="Only what waits or runs can be cancelled.",
        )
    return await _shown(request, caller, job_id)


@router.post("/v1/imports/{import_id}/restore", **schemas.answer(import_schemas.IMPORT))
async def restore_import(request: Request, import_id: str, caller: MemoryCaller) -> Response:
    """Undo a replacement: what it archived is live again, what it brought is archived."""
    job_id = _as_id(import_id)
    doors = doors_of(request)

    async def attempt() -> None:
        async with about(doors.pool, [caller.workspace]) as connection:
            job = await importing.show(connection, caller.workspace, job_id, lock=True)
            _check_restorable(job)
            if job.restored_at is None:
                if await staging.replaced_since(connection, job.workspace, job.id):
                    raise _replaced_since()
                undone = await staging.restore(connection, job.workspace, job.id, datetime.now(UTC))
                counts = {"archived": undone.archived, "restored": undone.active}
                await record(connection, job, caller.key_id, "restored", counts)

    await until_won(attempt)
    doors.service.relay.wake()
    return await _shown(request, caller, job_id)


def _check_restorable(job: Job) -> None:
    options = job.options
    if job.state != "done" or options["strategy"] != "replace" or options["dry_run"]:
        raise ConflictError(
            "not_restorable",
            "The import has replaced nothing.",
            cure="Only an import with strategy=replace that is done can be undone.",
        )


def _replaced_since() -> ConflictError:
    return ConflictError(
        "replaced_since",
        "A later import has replaced what this one brought.",
        cure="Restore the later one first.",
    )


async def _shown(request: Request, caller: Principal, job_id: UUID) -> Response:
    doors = doors_of(request)
    async with about(doors.pool, [caller.workspace]) as connection:
        job = await importing.show(connection, caller.workspace, job_id)
        waiting = job.state == "queued"
        ahead = await importing.ahead(connection, job) if waiting else 0
    embedding = await doors.embedding.of(doors.pool, job)
    return json_response(orjson.dumps(shown(job, embedding, ahead)))


async def _error_lines(pool: Pool, workspace: UUID, job: UUID) -> AsyncIterator[bytes]:
    # In pages of short transactions: a slow reader must not hold back the vacuum.
    after = -1
    while True:
        async with about(pool, [workspace]) as connection:
            page = await importing.errors(connection, workspace, job, after, _ERRORS)
        if not page:
            return
        yield b"".join(_line(error) for error in page)
        after = page[-1].index


def _line(error: ItemError) -> bytes:
    said = {
        "line": error.line,
        "index": error.index,
        "external_id": error.external_id,
        "code": error.code,
        "pointer": error.pointer,
        "detail": error.detail,
    }
    return orjson.dumps(said) + b"\n"


def _as_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise unknown_import() from None
