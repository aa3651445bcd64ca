"""Routes over single memories and lists of them."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from engram import metrics
from engram.domain.fields import FieldError, check_time, label
from engram.domain.filters import Condition
from engram.domain.memory import decode_item, decode_patch, invalid
from engram.errors import Fault, InvalidError, MalformedError
from engram.storage import records
from engram.storage.changing import unknown_memory
from engram.storage.connection import about
from engram.storage.contention import until_won
from engram.storage.spaces import read_space
from engram.storage.writing import Write
from engram_ingest import schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["memories"])

_OWNERS = ("user_id", "agent_id", "session_id", "app_id")
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="Repeating a request with it does nothing twice."),
]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="Only when the memory has this version.")
]


@router.post("/v1/memories", status_code=201, **schemas.body(schemas.NEW_MEMORY, schemas.RECORD))
async def create(
    request: Request,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[str | None, Query(description="`embedded`: answer when searchable.")] = None,
) -> Response:
    """Store one memory; 201 means durable."""
    check_wait(wait)
    value, body = await read_json(request)
    doors = doors_of(request)
    items = doors.arriving(caller.workspace, [decode_item(value)], "create")
    write = Write(
        caller.workspace,
        items,
        caller.key_id,
        doors.answer_created,
        check_idempotency_key(idempotency_key),
        request_hash("POST /v1/memories", body),
    )
    answer = await doors.committer.submit(write)
    outcome = "created" if answer.status == 201 else "folded"
    metrics.INGESTED.labels("http", "replayed" if answer.replayed else outcome).inc()
    body = answer.body
    if wait:
        body = await _embedded(request, caller, body)
    return json_response(body, answer.status, replayed=answer.replayed)


async def _embedded(request: Request, caller: Principal, body: bytes) -> bytes:
    doors = doors_of(request)
    answer = orjson.loads(body)
    memory_id = UUID(answer["id"])
    await doors.wait_embedded(caller.workspace, [memory_id])
    record = await doors.shown(caller.workspace, memory_id)
    return orjson.dumps({**record, **({"folded": True} if "folded" in answer else {})})


@router.get("/v1/memories/{memory_id}", **schemas.answer(schemas.RECORD))
async def show(request: Request, memory_id: str, caller: MemoryCaller) -> Response:
    """Return one memory."""
    return _with_etag(await doors_of(request).shown(caller.workspace, as_id(memory_id)))


@router.patch("/v1/memories/{memory_id}", **schemas.body(schemas.PATCH, schemas.RECORD))
async def change(
    request: Request, memory_id: str, caller: MemoryCaller, if_match: IfMatch = None
) -> Response:
    """Change fields of a memory; a new text gets a new version and keeps the old one."""
    value, _ = await read_json(request)
    record = await doors_of(request).change(
        caller.workspace,
        as_id(memory_id),
        decode_patch(value),
        if_version(if_match),
        caller.key_id,
    )
    return _with_etag(record)


@router.delete("/v1/memories/{memory_id}", status_code=204, **schemas.problems())
async def erase(
    request: Request, memory_id: str, caller: MemoryCaller, if_match: IfMatch = None
) -> Response:
    """Erase a memory everywhere; a tombstone stays, so that nothing late revives it."""
    await doors_of(request).erase(
        caller.workspace, as_id(memory_id), if_version(if_match), caller.key_id
    )
    return Response(status_code=204)


@router.get("/v1/memories/{memory_id}/history", **schemas.answer(schemas.HISTORY))
async def history(request: Request, memory_id: str, caller: MemoryCaller) -> Response:
    """Return every text a memory has had, oldest first."""
    found = as_id(memory_id)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        revisions = await records.history(connection, caller.workspace, found)
    if not revisions:
        raise unknown_memory()
    return json_response(orjson.dumps({"items": revisions, "next_cursor": None}))


class ListQuery:
    """The query of a list, checked by the same rules as bodies."""

    def __init__(  # noqa: PLR0913, PLR0917 - a parameter of the query is an argument here
        self,
        namespace: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        app_id: str | None = None,
        state: str | None = None,
        updated_since: str | None = None,
        source: str | None = None,
        external_id: str | None = None,
    ) -> None:
        given = {
            "namespace": namespace,
            "user_id": user_id,
            "agent_id": agent_id,
            "session_id": session_id,
            "app_id": app_id,
            "source": source,
            "external_id": external_id,
        }
        self.states = _states(state)
        self.condition = _condition(given, updated_since)
        self.namespace = namespace


@router.get("/v1/memories", **schemas.answer(schemas.RECORD_PAGE))
async def list_memories(
    request: Request,
    caller: MemoryCaller,
    query: Annotated[ListQuery, Depends(ListQuery)],
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return memories in the order of their ids, active ones unless asked otherwise."""
    after = decode_cursor(cursor, UUID, UUID(int=0))

    async def attempt() -> list[records.Record]:
        async with about(doors_of(request).pool, [caller.workspace]) as connection:
            space = await read_space(connection, caller.workspace, query.namespace)
            found = await records.page(
                connection,
                caller.workspace,
                after=after,
                limit=limit + 1,
                states=query.states,
                condition=query.condition,
                space=space,
            )
            if query.namespace is None:
                await records.as_read(connection, caller.workspace, found, space)
            return found

    items = await until_won(attempt)
    return json_response(orjson.dumps(page_of(items, limit, "id")))


def _states(state: str | None) -> list[str]:
    if state is None:
        return ["active"]
    if state not in records.LISTED_STATES:
        listed = ", ".join(records.LISTED_STATES)
        raise invalid([Fault("/state", "unknown_state", f"must be one of {listed}")])
    return [state]


def _condition(given: dict[str, str | None], updated_since: str | None) -> Condition:
    parts: list[str] = []
    arguments: list[Any] = []
    for name, value in given.items():
        if value is not None:
            parts.append(f"m.{name} = $?{len(arguments)}?::text")
            arguments.append(_parameter(name, label(512), value))
    if updated_since is not None:
        parts.append(f"m.updated_at >= $?{len(arguments)}?::timestamptz")
        arguments.append(_parameter("updated_since", check_time, updated_since))
    return Condition(" AND ".join(parts), arguments)


def _parameter(name: str, check: Callable[[Any], Any], value: str) -> Any:
    try:
        return check(value)
    except FieldError as error:
        raise invalid([Fault(f"/{name}", error.code, str(error))]) from None


def _with_etag(record: records.Record) -> Response:
    response = json_response(orjson.dumps(record))
    response.headers["ETag"] = f'"{record["version"]}"'
    return response


def as_id(text: str) -> UUID:
    """Return a memory id; what is no id names no memory.

    Raises:
        NotFoundError: it is not a uuid.
    """
    try:
        return UUID(text)
    except ValueError:
        raise unknown_memory() from None


def if_version(header: str | None) -> int | None:
    """Return the version an If-Match header names, None for none or ``*``.

    Raises:
        MalformedError: it names no version.
    """
    if header is None or header.strip() == "*":
        return None
    text = header.strip().strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise MalformedError(
            "bad_if_match", "If-Match names no version.", cure='Send the ETag back: If-Match: "3".'
        )
    return int(text)


def check_idempotency_key(key: str | None) -> str | None:
    """Return a usable key.

    Raises:
        InvalidError: it is empty, too long, or not printable ASCII.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= 200 or not key.isascii() or not key.isprintable():
        raise InvalidError(
            "bad_idempotency_key",
            "Idempotency-Key must have 1 to 200 printable ASCII characters.",
            cure="A random UUID for each new request is a good key.",
        )
    return key


def request_hash(*parts: str | bytes) -> bytes:
    """Return what makes two requests the same: route, query and body."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def check_wait(wait: str | None) -> None:
    """Accept only ``embedded``.

    Raises:
        InvalidError: anything else.
    """
    if wait not in (None, "embedded"):
        raise invalid([Fault("/wait", "unknown_value", "must be embedded")])
