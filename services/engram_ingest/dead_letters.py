"""Routes about dead letters: what was put aside, why, and trying it again or giving it up."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram.errors import EngramError, Fault, InvalidError
from engram.storage import dead_letters
from engram.storage.connection import about
from engram.storage.contention import until_won
from engram.storage.dead_letters import KINDS, Filter, Kind, Place
from engram.storage.idempotency import Answer, Key, claim, release, save
from engram_ingest import schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.doors import Doors
from engram_ingest.memories import IdempotencyKey, check_idempotency_key, request_hash
from engram_ingest.pages import decode_cursor, page_of
from engram_ingest.replaying import Tally, rehearse, replay, unknown_letter

router = APIRouter(tags=["dead letters"])

# Of one request; a page of the same size is what filters go through.
_MOST = 500
_FIELDS = ("ids", "kind", "class", "all", "dry_run", "cursor")
_START = Place.parse("00000000-0000-0000-0000-000000000000")


@router.get("/v1/dead-letters", **schemas.answer(schemas.DEAD_LETTER_PAGE))
async def list_letters(
    request: Request,
    caller: MemoryCaller,
    kind: Annotated[Kind | None, Query(description="Only this kind.")] = None,
    class_: Annotated[
        str | None, Query(alias="class", max_length=100, description="Only this class or code.")
    ] = None,
    discarded: Annotated[
        bool, Query(description="Those failures of embedding that were given up.")
    ] = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return dead letters, oldest first, without what they carry."""
    after = decode_cursor(cursor, Place.parse, _START)
    chosen = Filter(kind, _storable(class_), discarded)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        found = await dead_letters.page(connection, caller.workspace, chosen, after, limit + 1)
    now = datetime.now(UTC)
    return json_response(
        orjson.dumps(page_of([letter.described(now) for letter in found], limit, "id"))
    )


@router.get("/v1/dead-letters/{letter_id}", **schemas.answer(schemas.DEAD_LETTER))
async def show_letter(request: Request, letter_id: str, caller: MemoryCaller) -> Response:
    """Return one dead letter, with what was sent when it came through ingest."""
    place = _place(letter_id)
    async with about(doors_of(request).pool, [caller.workspace]) as connection:
        found = await dead_letters.named(connection, caller.workspace, [place])
        payload = await dead_letters.payload_of(connection, caller.workspace, place.id)
    if place not in found:
        raise unknown_letter()
    shown = found[place].described(datetime.now(UTC))
    if found[place].kind == "ingest" and payload:
        shown |= _shown(payload.data)
    return json_response(orjson.dumps(shown))


@router.post("/v1/dead-letters/replay", **schemas.body(schemas.LETTERS, schemas.REPLAYED))
async def replay_letters(
    request: Request, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Try dead letters again, at most 500 at once; `next_cursor` names where to go on."""
    return await _many(request, caller, idempotency_key, _replayed)


@router.post("/v1/dead-letters/discard", **schemas.body(schemas.LETTERS, schemas.DISCARDED))
async def discard_letters(
    request: Request, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Give dead letters up, at most 500 at once; `next_cursor` names where to go on."""
    return await _many(request, caller, idempotency_key, _discarded)


@router.post("/v1/dead-letters/{letter_id}/replay", **schemas.answer(schemas.REPLAYED))
async def replay_letter(
    request: Request, letter_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Try one dead letter again."""
    return await _one(request, caller, letter_id, idempotency_key, _replayed)


@router.post("/v1/dead-letters/{letter_id}/discard", **schemas.answer(schemas.DISCARDED))
async def discard_letter(
    request: Request, letter_id: str, caller: MemoryCaller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Give one dead letter up."""
    return await _one(request, caller, letter_id, idempotency_key, _discarded)


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which letters a request is about: those named, or those of a filter after a place."""

    ids: tuple[str, ...] | None
    chosen: Filter
    after: Place
    dry_run: bool


_Verb = Callable[[Doors, Principal, list[Place], Tally, bool], Awaitable[dict[str, Any]]]


async def _replayed(
    doors: Doors, caller: Principal, places: list[Place], tally: Tally, dry_run: bool
) -> dict[str, Any]:
    await (rehearse if dry_run else replay)(doors, caller, places, tally)
    return {"replayed": tally.done, "dropped": tally.dropped}


async def _discarded(
    doors: Doors, caller: Principal, places: list[Place], tally: Tally, dry_run: bool
) -> dict[str, Any]:
    async def attempt() -> int:
        async with about(doors.pool, [caller.workspace]) as connection:
            return await dead_letters.discard(connection, caller.workspace, places, caller.key_id)

    tally.done = len(places) if dry_run else await until_won(attempt)
    return {"discarded": tally.done}


async def _many(request: Request, caller: Principal, key: str | None, verb: _Verb) -> Response:
    value, body = await read_json(request)
    wanted = _decode(value)
    sha256 = request_hash(f"POST {request.url.path}", body)

    async def work() -> dict[str, Any]:
        return await _do(doors_of(request), caller, wanted, verb)

    return await _once(request, caller, key, sha256, work)


async def _one(
    request: Request, caller: Principal, letter_id: str, key: str | None, verb: _Verb
) -> Response:
    place = _place(letter_id)
    wanted = _Selection((str(place),), Filter(), _START, dry_run=False)

    async def work() -> dict[str, Any]:
        answer = await _do(doors_of(request), caller, wanted, verb)
        if not answer["matched"]:
            raise unknown_letter()
        return answer

    return await _once(request, caller, key, request_hash(f"POST {request.url.path}"), work)


async def _do(doors: Doors, caller: Principal, wanted: _Selection, verb: _Verb) -> dict[str, Any]:
    tally = Tally()
    places, cursor = await _selected(doors, caller, wanted, tally)
    tally.matched = len(places)
    done = await verb(doors, caller, places, tally, wanted.dry_run)
    return {
        "dry_run": wanted.dry_run,
        "matched": tally.matched,
        **done,
        "failed": len(tally.errors),
        "errors": tally.errors,
        "next_cursor": cursor,
    }


async def _selected(
    doors: Doors, caller: Principal, wanted: _Selection, tally: Tally
) -> tuple[list[Place], str | None]:
    async with about(doors.pool, [caller.workspace]) as connection:
        if wanted.ids is None:
            found = await dead_letters.page(
                connection, caller.workspace, wanted.chosen, wanted.after, _MOST + 1
            )
            page = page_of([{"id": letter.place} for letter in found], _MOST, "id")
            return [item["id"] for item in page["items"]], page["next_cursor"]
        named = {text: place for text in wanted.ids if (place := _parsed(text))}
        there = await dead_letters.named(connection, caller.workspace, list(named.values()))
    unknown = unknown_letter()
    for text in wanted.ids:
        if named.get(text) not in there:
            tally.add_error(text, unknown.code, unknown.detail)
    return sorted(there), None


async def _once(
    request: Request,
    caller: Principal,
    key: str | None,
    sha256: bytes,
    work: Callable[[], Awaitable[dict[str, Any]]],
) -> Response:
    """Answer a repeated request as the first; the work itself may be done twice without harm."""
    if check_idempotency_key(key) is None:
        return json_response(orjson.dumps(await work()))
    pool, wanted = doors_of(request).pool, Key(caller.workspace, str(key))
    async with about(pool, [caller.workspace]) as connection:
        saved = (await claim(connection, {wanted: sha256})).get(wanted)
        if saved is None:
            await release(connection, [wanted])
    if saved is not None:
        return _again(saved.answer_to(sha256))
    answer = Answer(200, orjson.dumps(await work()))
    async with about(pool, [caller.workspace]) as connection:
        if wanted not in await claim(connection, {wanted: sha256}):
            await save(connection, {wanted: answer})
    return json_response(answer.body)


def _again(answer: Answer | EngramError) -> Response:
    if isinstance(answer, EngramError):
        raise answer
    return json_response(answer.body, answer.status, replayed=True)


def _shown(data: bytes) -> dict[str, str]:
    try:
        return {"payload": data.decode(), "payload_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(data).decode(), "payload_encoding": "base64"}


def _place(text: str) -> Place:
    place = _parsed(text)
    if place is None:
        raise unknown_letter()
    return place


def _parsed(text: str) -> Place | None:
    try:
        return Place.parse(text)
    except ValueError:
        return None


def _storable(text: str | None) -> str | None:
    # Postgres takes no U+0000, so no class holds one and none is found.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text else text


def _decode(value: Any) -> _Selection:
    """Check the body of a request about many letters.

    Raises:
        InvalidError: it does not say which letters are meant, or not as it should.
    """
    if not isinstance(value, dict):
        raise _invalid([Fault("", "wrong_type", "must be an object")])
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", f"known: {', '.join(_FIELDS)}")
        for name in value
        if name not in _FIELDS
    ]
    faults += [fault for check in (_check_ids, _check_filter) for fault in check(value)]
    if not faults and not _says_which(value):
        faults.append(Fault("", "missing", 'must say which: ids, kind or class, or "all": true'))
    if faults:
        raise _invalid(faults)
    ids, error_class = value.get("ids"), value.get("class")
    return _Selection(
        None if ids is None else tuple(dict.fromkeys(ids)),
        Filter(value.get("kind"), _storable(error_class)),
        decode_cursor(value.get("cursor"), Place.parse, _START),
        value.get("dry_run") or False,
    )


def _says_which(value: dict[str, Any]) -> bool:
    """Exactly one of: ids, a filter, all. An empty body is never taken for all."""
    by_filter = value.get("kind") is not None or value.get("class") is not None
    ways = (value.get("ids") is not None, by_filter, bool(value.get("all")))
    return ways.count(True) == 1


def _check_ids(value: dict[str, Any]) -> list[Fault]:
    ids = value.get("ids")
    if ids is None:
        return []
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        return [Fault("/ids", "wrong_type", "must be an array of strings")]
    if len(ids) > _MOST:
        return [Fault("/ids", "too_many", f"has {len(ids)} entries; at most {_MOST} fit")]
    return []


def _check_filter(value: dict[str, Any]) -> list[Fault]:
    faults = []
    if value.get("kind") not in (None, *KINDS):
        faults.append(Fault("/kind", "unknown_value", f"must be one of {', '.join(KINDS)}"))
    for name, wanted in (("class", str), ("cursor", str), ("all", bool), ("dry_run", bool)):
        if value.get(name) is not None and not isinstance(value[name], wanted):
            faults.append(Fault(f"/{name}", "wrong_type", f"must be a JSON {_JSON[wanted]}"))
    return faults


_JSON = {str: "string", bool: "boolean"}


def _invalid(faults: list[Fault]) -> InvalidError:
    first = f"{faults[0].pointer or 'The body'} {faults[0].detail}"
    return InvalidError(
        "invalid_selection", f"{first}.", cure="Correct the named fields.", faults=tuple(faults)
    )
