"""Routes about decay: its settings, what it would archive, its runs, and bringing memories back."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.domain.decay import DEFAULT
from engram.domain.decay_settings import Rule, Rules, decode_changes
from engram.domain.fields import MAX_NAMESPACE, FieldError, label
from engram.domain.memory import invalid
from engram.errors import EngramError, Fault
from engram.storage import decay_runs, decay_settings, decaying, sweeps
from engram.storage.connection import Connection, about, reachable
from engram.storage.contention import until_won
from engram.storage.decay_runs import Run, unknown_run
from engram.storage.idempotency import Answer, Key, claim, save
from engram_ingest import decay_schemas, schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_json
from engram_ingest.decay_preview import preview
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.doors import Doors
from engram_ingest.memories import IdempotencyKey, as_id, check_idempotency_key, request_hash
from engram_ingest.merges_once import once_in_parts
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["decay"])

# The sweep that carries out what was asked for.
SWEEP = "decay-runs"
_LOWEST = UUID(int=0)
_NEWEST = UUID(int=(1 << 128) - 1)
_name = label(MAX_NAMESPACE)
Namespace = Annotated[str | None, Query(description="Of this namespace.")]
Prefix = Annotated[str | None, Query(description="Of namespaces that begin with this.")]


@router.get("/v1/decay", **schemas.answer(decay_schemas.SETTINGS))
async def show_settings(
    request: Request, caller: MemoryCaller, namespace: Namespace = None, prefix: Prefix = None
) -> Response:
    """Return the settings of decay: the workspace's, a namespace's, or a prefix's."""
    of = _target(namespace, prefix)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        rules = await decay_settings.rules_of(connection, caller.workspace)
    return _settings(rules, *of)


@router.patch("/v1/decay", **schemas.body(decay_schemas.CHANGES, decay_schemas.SETTINGS))
async def change_settings(
    request: Request, caller: MemoryCaller, namespace: Namespace = None, prefix: Prefix = None
) -> Response:
    """Change settings of decay; null leaves a field to what is less specific."""
    value, _ = await read_json(request)
    changes = decode_changes(value)
    name, is_prefix = _target(namespace, prefix)

    async def attempt() -> Rules:
        async with about(doors_of(request).pool, [caller.workspace]) as connection:
            return await decay_settings.change_rule(
                connection,
                caller.workspace,
                name,
                changes,
                is_prefix=is_prefix,
                actor=caller.key_id,
            )

    return _settings(await until_won(attempt), name, is_prefix)


@router.get("/v1/decay/namespaces", **schemas.answer(decay_schemas.RULE_PAGE))
async def list_namespaces(
    request: Request,
    caller: MemoryCaller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return the settings of namespaces and prefixes, in order of name."""
    after = decode_cursor(cursor, str, "")
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        rules = await decay_settings.listed_rules(connection, caller.workspace)
    found = [{**_rule(rule), "key": _sort_key(rule)} for rule in rules]
    page = page_of([item for item in found if item["key"] > after][: limit + 1], limit, "key")
    page["items"] = [{n: v for n, v in item.items() if n != "key"} for item in page["items"]]
    return json_response(orjson.dumps(page))


@router.get("/v1/decay/preview", **schemas.answer(decay_schemas.PREVIEW))
async def show_preview(
    request: Request, caller: MemoryCaller, namespace: Namespace = None
) -> Response:
    """Return what would be archived now, and what comes due in 7 and in 30 days."""
    pool = doors_of(request).pool
    return json_response(orjson.dumps(await preview(pool, caller.workspace, _checked(namespace))))


@router.post(
    "/v1/decay/runs", status_code=202, **schemas.body(decay_schemas.NEW_RUN, decay_schemas.RUN, 202)
)
async def ask_for_run(
    request: Request, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask for a run now; with `dry_run` answer 200 with the preview and change nothing."""
    value, body = await read_json(request)
    namespace, dry_run = _decode_run(value)
    doors = doors_of(request)
    if dry_run:
        found = await preview(doors.pool, caller.workspace, namespace)
        return json_response(orjson.dumps(found))

    async def work(connection: Connection) -> Answer:
        run = await decay_runs.queue(connection, caller.workspace, caller.key_id, namespace)
        return Answer(202, orjson.dumps(run.described()))

    response = await _once(request, caller, idempotency_key, work, body)
    async with reachable(), doors.service.pool.acquire() as connection:
        await sweeps.due_now(connection, SWEEP)
    return response


async def _once(
    request: Request,
    caller: Principal,
    key: str | None,
    work: Callable[[Connection], Awaitable[Answer]],
    body: bytes = b"",
) -> Response:
    """Answer with what ``work`` returns; the same to a request that is repeated."""
    checked = check_idempotency_key(key)
    wanted = None if checked is None else Key(caller.workspace, checked)
    sha256 = request_hash(f"POST {request.url.path}", body)

    async def attempt() -> Answer | EngramError:
        async with about(doors_of(request).pool, [caller.workspace]) as connection:
            if wanted is None:
                return await work(connection)
            saved = (await claim(connection, {wanted: sha256})).get(wanted)
            if saved is not None:
                return saved.answer_to(sha256)
            answer = await work(connection)
            await save(connection, {wanted: answer})
            return answer

    answer = await until_won(attempt)
    if isinstance(answer, EngramError):
        raise answer
    return json_response(answer.body, answer.status, replayed=answer.replayed)


@router.get("/v1/decay/runs", **schemas.answer(decay_schemas.RUN_PAGE))
async def list_runs(
    request: Request,
    caller: MemoryCaller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return the runs that had anything to archive, newest first."""
    before = decode_cursor(cursor, UUID, _NEWEST)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        runs = await decay_runs.page(connection, caller.workspace, before, limit + 1)
    return json_response(orjson.dumps(page_of([run.described() for run in runs], limit, "id")))


@router.get("/v1/decay/runs/{run_id}", **schemas.answer(decay_schemas.RUN))
async def show_run(request: Request, run_id: str, caller: MemoryCaller) -> Response:
    """Return one run."""
    run = await _run(doors_of(request), caller, run_id)
    return json_response(orjson.dumps(run.described()))


@router.get("/v1/decay/runs/{run_id}/memories", **schemas.answer(decay_schemas.ARCHIVED_PAGE))
async def list_archived(
    request: Request,
    run_id: str,
    caller: MemoryCaller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return what a run has archived, in order of id."""
    after = decode_cursor(cursor, UUID, _LOWEST)
    doors = doors_of(request)
    run = await _run(doors, caller, run_id)
    async with about(doors.pool, [caller.workspace]) as connection:
        found = await decay_runs.archived_page(connection, run, after, limit + 1)
    return json_response(orjson.dumps(page_of(found, limit, "memory_id")))


@router.post("/v1/decay/runs/{run_id}/restore", **schemas.answer(decay_schemas.RESTORED))
async def restore_run(
    request: Request, run_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Restore what a run has archived and is archived still; doing it again changes nothing."""
    doors, found = doors_of(request), _as_run(run_id)

    async def work() -> dict[str, int]:
        total, after = decaying.Restored(), _LOWEST
        while True:
            part, going = await until_won(partial(_restored, doors, caller, found, after))
            doors.service.relay.wake()
            total.add(part)
            if going is None:
                return asdict(total)
            after = going

    return await once_in_parts(request, caller, idempotency_key, work)


async def _restored(
    doors: Doors, caller: Principal, run_id: UUID, after: UUID
) -> tuple[decaying.Restored, UUID | None]:
    now = datetime.now(UTC)
    async with about(doors.pool, [caller.workspace]) as connection:
        return await decaying.restore_some(
            connection, caller.workspace, run_id, after, caller.key_id, now
        )


@router.post("/v1/memories/{memory_id}/restore", **schemas.answer(schemas.RECORD))
async def restore_memory(
    request: Request, memory_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make one archived memory active again, whatever archived it."""
    doors, found = doors_of(request), as_id(memory_id)

    async def work(connection: Connection) -> Answer:
        await decaying.restore_memory(
            connection, caller.workspace, found, caller.key_id, datetime.now(UTC)
        )
        record = await doors.record(connection, caller.workspace, found)
        return Answer(200, orjson.dumps(record), memory_id=found)

    response = await _once(request, caller, idempotency_key, work)
    doors.service.relay.wake()
    return response


async def _run(doors: Doors, caller: Principal, run_id: str) -> Run:
    async with about(doors.pool, [caller.workspace]) as connection:
        return await decay_runs.show(connection, caller.workspace, _as_run(run_id))


def _as_run(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise unknown_run() from None


def _checked(namespace: str | None, name: str = "namespace") -> str | None:
    try:
        return _name(namespace)
    except FieldError as error:
        raise invalid([Fault(f"/{name}", error.code, str(error))]) from None


def _target(namespace: str | None, prefix: str | None) -> tuple[str, bool]:
    """Return the name that settings are of, and whether it is a prefix; the workspace's is ""."""
    if namespace is not None and prefix is not None:
        raise invalid([Fault("/prefix", "out_of_range", "cannot be given beside a namespace")])
    exact = _checked(namespace)
    return (_checked(prefix, "prefix") or "", True) if exact is None else (exact, False)


def _decode_run(value: Any) -> tuple[str | None, bool]:
    if not isinstance(value, dict):
        raise invalid([Fault("", "wrong_type", "must be an object")])
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", "known: namespace, dry_run")
        for name in value
        if name not in ("namespace", "dry_run")
    ]
    dry_run = value.get("dry_run")
    if dry_run is not None and not isinstance(dry_run, bool):
        faults.append(Fault("/dry_run", "wrong_type", "must be a JSON boolean"))
    if faults:
        raise invalid(faults)
    return _checked(value.get("namespace")), bool(dry_run)


def _settings(rules: Rules, name: str, is_prefix: bool) -> Response:
    body = {
        "namespace": None if is_prefix else name,
        "prefix": name if is_prefix and name else None,
        "own": asdict(rules.own(name, is_prefix=is_prefix)),
        "effective": asdict(rules.policy(name)),
        "defaults": asdict(DEFAULT),
    }
    return json_response(orjson.dumps(body))


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "namespace": None if rule.is_prefix else rule.namespace,
        "prefix": rule.namespace if rule.is_prefix else None,
        **asdict(rule.override),
    }


def _sort_key(rule: Rule) -> str:
    # No name holds a control character, so none sorts between the two of one name.
    return f"{rule.namespace}\x01{int(rule.is_prefix)}"
