"""Routes over the runs of the dedup sweep: how far they are, ending them, undoing all they did."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.storage import dedup_runs
from engram.storage.connection import Connection, about
from engram.storage.contention import until_won
from engram.storage.dedup_runs import Run, unknown_run
from engram.storage.records import as_time
from engram.storage.undoing import Undone
from engram_ingest import merges_schemas, schemas
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey
from engram_ingest.merges import undone
from engram_ingest.merges_once import id_of, once, once_in_parts
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["dedup"])

_NEWEST = UUID(int=(1 << 128) - 1)


@router.get("/v1/dedup/runs", **schemas.answer(merges_schemas.RUN_PAGE))
async def list_runs(
    request: Request,
    caller: MemoryCaller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return runs of the dedup sweep, newest first."""
    before = decode_cursor(cursor, UUID, _NEWEST)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        found = await dedup_runs.page(connection, caller.workspace, before, limit + 1)
    return json_response(orjson.dumps(page_of([shown(run) for run in found], limit, "id")))


@router.get("/v1/dedup/runs/{run_id}", **schemas.answer(merges_schemas.RUN))
async def show_run(request: Request, run_id: str, caller: MemoryCaller) -> Response:
    """Return a run: how far it is, or how it ended."""
    wanted = id_of(run_id, unknown_run)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        run = await dedup_runs.show(connection, caller.workspace, wanted)
    return json_response(orjson.dumps(shown(run)))


@router.post("/v1/dedup/runs/{run_id}/cancel", **schemas.answer(merges_schemas.RUN))
async def cancel_run(
    request: Request, run_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """End a run that is running; what it has merged stays."""
    wanted = id_of(run_id, unknown_run)

    async def work(connection: Connection) -> dict[str, Any]:
        return shown(await dedup_runs.cancel(connection, caller.workspace, wanted))

    return await once(request, caller, idempotency_key, work)


@router.post("/v1/dedup/runs/{run_id}/undo", **schemas.answer(merges_schemas.UNDONE))
async def undo_run(
    request: Request, run_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Undo all that a run has merged, the latest first; repeat it if it was cut off."""
    wanted = id_of(run_id, unknown_run)
    pool = doors_of(request).pool

    async def some() -> tuple[Undone, bool]:
        async with about(pool, [caller.workspace]) as connection:
            return await dedup_runs.undo_some(
                connection, caller.workspace, wanted, actor=caller.key_id, now=datetime.now(UTC)
            )

    async def work() -> dict[str, Any]:
        total, more = Undone(), True
        while more:
            done, more = await until_won(some)
            total.add(done)
        return undone(total)

    return await once_in_parts(request, caller, idempotency_key, work)


def shown(run: Run) -> dict[str, Any]:
    """Return a run as the API shows it."""
    return {
        "id": str(run.id),
        "state": run.state,
        "actor": run.actor,
        "options": run.options,
        "counts": run.counts,
        "rule_version": run.rule_version,
        "merge_cap": run.merge_cap,
        "merged": run.merged,
        "restored": run.restored,
        "error": run.error,
        "started_at": as_time(run.started_at),
        "finished_at": as_time(run.finished_at),
        "undone_at": as_time(run.undone_at),
    }
