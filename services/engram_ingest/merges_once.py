"""Does what a POST asks for once, however often it comes with the same Idempotency-Key."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import orjson
from fastapi import Request
from starlette.responses import Response

from engram import strictjson
from engram.errors import EngramError, Fault, InvalidError
from engram.storage import idempotency
from engram.storage.connection import Connection, about
from engram.storage.contention import until_won
from engram.storage.idempotency import Answer, Key
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_body
from engram_ingest.dependencies import doors_of, json_response
from engram_ingest.memories import check_idempotency_key, request_hash

Work = Callable[[Connection], Awaitable[dict[str, Any]]]


async def once(
    request: Request, caller: Principal, key: str | None, work: Work, body: bytes = b""
) -> Response:
    """Answer with what ``work`` returns, in one transaction with the saved answer.

    The answer is kept for a day: it holds ids and numbers, never the text of a memory.

    Raises:
        EngramError: what ``work`` raises; then nothing was done, and the key is free again.
    """
    wanted = _key(caller, key)
    sha256 = request_hash(f"POST {request.url.path}", body)
    doors = doors_of(request)

    async def attempt() -> Answer | EngramError:
        async with about(doors.pool, [caller.workspace]) as connection:
            if wanted is not None:
                saved = (await idempotency.claim(connection, {wanted: sha256})).get(wanted)
                if saved is not None:
                    return saved.answer_to(sha256)
            answer = Answer(200, orjson.dumps(await work(connection)))
            if wanted is not None:
                await idempotency.save(connection, {wanted: answer})
            return answer

    response = _response(await until_won(attempt))
    doors.service.relay.wake()
    return response


async def once_in_parts(
    request: Request,
    caller: Principal,
    key: str | None,
    work: Callable[[], Awaitable[Any]],
    body: bytes = b"",
    status: int = 200,
) -> Response:
    """Answer with what ``work`` returns, which takes transactions of its own.

    Two requests at once may both work: it must do no harm to do it twice.

    Raises:
        EngramError: what ``work`` raises.
    """
    wanted = _key(caller, key)
    sha256 = request_hash(f"POST {request.url.path}", *([body] if body else []))
    doors = doors_of(request)
    if wanted is not None:
        async with about(doors.pool, [caller.workspace]) as connection:
            saved = (await idempotency.claim(connection, {wanted: sha256})).get(wanted)
            if saved is None:
                await idempotency.release(connection, [wanted])
        if saved is not None:
            return _response(saved.answer_to(sha256))
    answer = Answer(status, orjson.dumps(await work()))
    doors.service.relay.wake()
    if wanted is not None:
        async with about(doors.pool, [caller.workspace]) as connection:
            if wanted not in await idempotency.claim(connection, {wanted: sha256}):
                await idempotency.save(connection, {wanted: answer})
    return _response(answer)


async def fields_of(request: Request, known: Iterable[str]) -> tuple[dict[str, Any], bytes]:
    """Return the body of a decision, an object or nothing, and its bytes.

    Raises:
        InvalidError: it is no object, or names a field that is not known.
        EngramError: as `read_body` and `engram.strictjson.loads`.
    """
    body = await read_body(request)
    value = strictjson.loads(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise invalid_decision(Fault("", "wrong_type", "must be an object"))
    listed = ", ".join(known)
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", f"known: {listed}")
        for name in value
        if name not in known
    ]
    if faults:
        raise invalid_decision(*faults)
    return value, body


def invalid_decision(*faults: Fault) -> InvalidError:
    """Return the error for a decision that cannot be read."""
    return InvalidError(
        "invalid_decision",
        "The decision cannot be read.",
        cure="docs/dedup-undo.md shows what accept and resolve take.",
        faults=faults,
    )


def id_of(text: str, unknown: Callable[[], EngramError]) -> UUID:
    """Return an id of a path; what is no id names nothing.

    Raises:
        EngramError: ``unknown``, when it is not a uuid.
    """
    try:
        return UUID(text)
    except ValueError:
        raise unknown() from None


def _key(caller: Principal, key: str | None) -> Key | None:
    checked = check_idempotency_key(key)
    return None if checked is None else Key(caller.workspace, checked)


def _response(answer: Answer | EngramError) -> Response:
    if isinstance(answer, EngramError):
        raise answer
    return json_response(answer.body, answer.status, replayed=answer.replayed)
