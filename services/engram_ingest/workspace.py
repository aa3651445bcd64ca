"""Routes about the workspace itself: its counts and its keys."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.domain.fields import FieldError, check_time, label
from engram.domain.keys import SCOPES
from engram.domain.memory import invalid
from engram.errors import ConflictError, EngramError, Fault, NotFoundError
from engram.storage import counting
from engram.storage import keys as stored_keys
from engram.storage.connection import Connection, about
from engram.storage.contention import until_won
from engram.storage.idempotency import Answer, Key, claim, save
from engram_ingest import schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import Caller, doors_of, json_response
from engram_ingest.memories import IdempotencyKey, check_idempotency_key, request_hash
from engram_ingest.pages import decode_cursor, page_of

router = APIRouter(tags=["workspace"])
_KEY_FIELDS = ("name", "scopes", "expires_at")


@router.get("/v1/workspace", **schemas.answer(schemas.WORKSPACE))
async def show_workspace(request: Request, caller: Caller) -> Response:
    """Return what the workspace holds, counted now."""

    async def counted() -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        async with about(doors_of(request).pool, [caller.workspace]) as connection:
            return (
                await counting.by_state(connection, caller.workspace),
                await counting.by_space(connection, caller.workspace),
            )

    by_state, vectors = await until_won(counted)
    body = {
        "id": str(caller.workspace),
        "name": caller.workspace_name,
        "memory_count": by_state.get("active", 0),
        "by_state": by_state,
        "vectors": vectors,
        "usage": {},
    }
    return json_response(orjson.dumps(body))


@router.post("/v1/keys", status_code=201, **schemas.body(schemas.NEW_KEY, schemas.KEY, 201))
async def create_key(
    request: Request, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Create a key of this workspace; its text is shown in this answer and never again."""
    caller.require("operator")
    value, body = await read_json(request)
    name, scopes, expires_at = _decode_key(value)
    key = check_idempotency_key(idempotency_key)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        if key:
            await _claim_once(connection, caller, key, request_hash("POST /v1/keys", body))
        made, described = await stored_keys.create_key(
            connection, caller.workspace, name, scopes, expires_at, caller.key_id
        )
    return json_response(orjson.dumps({**described, "key": made.text}), 201)


async def _claim_once(connection: Connection, caller: Principal, key: str, sha256: bytes) -> None:
    # The answer holds a secret, so it is not kept to be replayed: a repeat is refused instead.
    wanted = Key(caller.workspace, key)
    saved = (await claim(connection, {wanted: sha256})).get(wanted)
    if saved is not None:
        again = saved.answer_to(sha256)
        if isinstance(again, EngramError):
            raise again
        raise ConflictError(
            "key_made_before",
            "A key was made with this Idempotency-Key; its text was shown then.",
            cure="List the keys, revoke that one, and make another.",
        )
    await save(connection, {wanted: Answer(409, b"")})


@router.get("/v1/keys", **schemas.answer(schemas.KEY_PAGE))
async def list_keys(
    request: Request,
    caller: Caller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return the keys of this workspace, without their texts."""
    caller.require("operator")
    after = decode_cursor(cursor, str, "")
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        found = await stored_keys.list_keys(connection, caller.workspace, after, limit + 1)
    return json_response(orjson.dumps(page_of(found, limit, "id")))


@router.delete("/v1/keys/{key_id}", **schemas.answer(schemas.KEY))
async def revoke_key(request: Request, key_id: str, caller: Caller) -> Response:
    """Revoke a key; it stops working within five seconds everywhere."""
    caller.require("operator")
    if not key_id.isascii() or not key_id.isalnum():
        raise _unknown_key()
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        described = await stored_keys.revoke_key(
            connection, caller.workspace, key_id, caller.key_id
        )
    if described is None:
        raise _unknown_key()
    return json_response(orjson.dumps(described))


def _unknown_key() -> NotFoundError:
    return NotFoundError("key_not_found", "There is no such key.", cure="List the keys.")


def _decode_key(value: Any) -> tuple[str, list[str], Any]:
    if not isinstance(value, dict):
        raise invalid([Fault("", "wrong_type", "must be an object")])
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", f"known: {', '.join(_KEY_FIELDS)}")
        for name in value
        if name not in _KEY_FIELDS
    ]
    checked: dict[str, Any] = {}
    for field, check in (("name", label(100)), ("expires_at", check_time)):
        try:
            checked[field] = check(value.get(field))
        except FieldError as error:
            faults.append(Fault(f"/{field}", error.code, str(error)))
    scopes = value.get("scopes", ["memories"])
    if value.get("name") is None:
        faults.append(Fault("/name", "missing", "name is required"))
    if not isinstance(scopes, list) or not scopes or any(s not in SCOPES for s in scopes):
        faults.append(Fault("/scopes", "unknown_scope", f"must list some of {', '.join(SCOPES)}"))
    if faults:
        raise invalid(faults)
    return str(checked["name"]), scopes, checked["expires_at"]
