"""The import route: small bodies are answered at once, larger ones become a job."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from engram.errors import EngramError, InvalidError
from engram.storage import auditing, importing
from engram.storage.connection import Connection, about
from engram.storage.idempotency import Answer
from engram.storage.ids import new_id
from engram.storage.writing import Outcome, Write, rehearse
from engram_ingest import import_schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import IMPORT_BYTES
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.import_arriving import arrive
from engram_ingest.import_items import COUNTS, count, count_metrics
from engram_ingest.import_options import Options, checked
from engram_ingest.import_reading import Batch, NotSmallError, read_batch
from engram_ingest.import_uploads import Incoming, Upload, headers_of, of_bytes
from engram_ingest.import_views import report_of
from engram_ingest.memories import (
    IdempotencyKey,
    check_idempotency_key,
    check_wait,
    request_hash,
)

router = APIRouter(tags=["import"])

_ROUTE = "POST /v1/memories/import"
# Parsing more than this is left to a thread, so that other requests go on.
_PARSED_HERE_BYTES = 256 * 1024
_WAIT_S = 25.0
_LOOK_S = 0.05


def _options(
    request: Request,
    strategy: Annotated[
        str, Query(description="What becomes of what is there: skip, merge or replace.")
    ] = "skip",
    dry_run: Annotated[bool, Query(description="Report, but change nothing.")] = False,
    namespace: Annotated[
        str | None, Query(description="Put every item here; with replace: what is taken over.")
    ] = None,
    format: Annotated[  # noqa: A002 - the name in the contract
        str | None, Query(description="Name of the format; default: detected.")
    ] = None,
    revive: Annotated[bool, Query(description="Store anew what was deleted here.")] = False,
) -> Options:
    return checked(
        strategy,
        dry_run=dry_run,
        namespace=namespace,
        format_name=format,
        revive=revive,
        content_type=request.headers.get("content-type", ""),
    )


@router.post("/v1/memories/import", **import_schemas.import_body())
async def import_memories(
    request: Request,
    caller: MemoryCaller,
    options: Annotated[Options, Depends(_options)],
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[
        str | None, Query(description="`embedded`: answer a small import when searchable.")
    ] = None,
) -> Response:
    """Import a file of any size; broken items never stop good ones."""
    check_wait(wait)
    key = check_idempotency_key(idempotency_key)
    doors = doors_of(request)
    incoming = Incoming(request, doors.service.settings.import_max_bytes)
    body, small = await incoming.head(IMPORT_BYTES)
    if not small:
        return await _as_job(request, caller, options, key, incoming.pieces())
    try:
        batch = await _read(body, caller, options)
    except NotSmallError:
        return await _as_job(request, caller, options, key, of_bytes(body))
    if options.strategy == "replace":
        # A job even so: it is what can be restored. Only its answer does not wait.
        return await _as_job(request, caller, options, key, of_bytes(body), wait=True)
    write = _as_write(request, caller, batch, key, body, audited=not options.dry_run)
    return await _at_once(request, write, options, wait)


async def _read(body: bytes, caller: Principal, options: Options) -> Batch:
    take = arrive(caller.workspace, options, options.plan(), new_id)
    if len(body) <= _PARSED_HERE_BYTES:
        return read_batch(body, options, take)
    return await asyncio.to_thread(read_batch, body, options, take)


async def _at_once(request: Request, write: Write, options: Options, wait: str | None) -> Response:
    doors = doors_of(request)
    if options.dry_run:
        answer = await rehearse(doors.pool, write)
    else:
        answer = await doors.committer.submit(write)
        if not answer.replayed:
            count_metrics(orjson.loads(answer.body), "http")
        if wait:
            await doors.wait_embedded(write.workspace, [item.id for item in write.items])
    return json_response(answer.body, answer.status, replayed=answer.replayed)


def _as_write(
    request: Request,
    caller: Principal,
    batch: Batch,
    key: str | None,
    body: bytes,
    *,
    audited: bool,
) -> Write:
    started = time.perf_counter()

    async def render(connection: Connection, outcomes: Sequence[Outcome]) -> Answer | EngramError:
        # A transaction that lost a race is rendered again: each time on a copy.
        report = copy.deepcopy(batch.report)
        count(report, batch.taken, outcomes)
        said = report.as_json()
        if audited:
            await auditing.record(
                connection,
                auditing.Entry(
                    caller.workspace,
                    caller.key_id,
                    "import.finished",
                    counts={name: said[name] for name in COUNTS if said[name]},
                    format=said["format"],
                    duration_s=round(time.perf_counter() - started, 3),
                ),
            )
        return Answer(200, orjson.dumps(said))

    return Write(
        caller.workspace,
        tuple(item for _, item in batch.taken),
        caller.key_id,
        render,
        key,
        request_hash(_ROUTE, str(request.query_params), body),
    )


async def _as_job(
    request: Request,
    caller: Principal,
    options: Options,
    key: str | None,
    pieces: AsyncIterator[bytes],
    *,
    wait: bool = False,
) -> Response:
    doors = doors_of(request)
    most = doors.service.settings.import_jobs_limit
    query = f"{_ROUTE}?{request.query_params}"
    upload = Upload(doors.pool, caller, options, most, key, query)
    try:
        answer = await upload.run(pieces)
    finally:
        doors.runner.wake()
    if wait and not answer.replayed and (report := await _report_soon(request, caller, upload)):
        answer = Answer(200, report)
    response = json_response(answer.body, answer.status, replayed=answer.replayed)
    job = Answer(202, orjson.dumps({"id": str(upload.id)})) if answer.status == 200 else answer
    response.headers.update(headers_of(job))
    return response


async def _report_soon(request: Request, caller: Principal, upload: Upload) -> bytes | None:
    """Return the report of a small replacement, None when it waits behind others for too long."""
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while asyncio.get_running_loop().time() < deadline:
        async with about(doors_of(request).pool, [caller.workspace]) as connection:
            job = await importing.show(connection, caller.workspace, upload.id)
            if job.state == "done":
                errors = await importing.errors(connection, job.workspace, job.id, -1, 100)
                listed = [
                    {
                        "index": e.index,
                        "line": e.line,
                        "external_id": e.external_id,
                        "code": e.code,
                        "detail": f"{e.pointer} {e.detail}".strip(),
                    }
                    for e in errors
                ]
                return orjson.dumps({**report_of(job), "errors": listed})
        if (problem := job.error) is not None:
            raise InvalidError(problem["code"], problem["detail"], cure=problem["cure"])
        if job.state == "cancelled":
            return None
        await asyncio.sleep(_LOOK_S)
    return None
