"""Routes about the models of a space: which of its family embeds now, and who made its vectors."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from engram.domain.memory import invalid
from engram.domain.spaces import family_of
from engram.errors import Fault
from engram.storage import auditing, models
from engram.storage.auditing import Entry
from engram.storage.connection import reachable
from engram.storage.spaces import Space
from engram_ingest import schemas
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import Caller, doors_of, json_response

router = APIRouter(tags=["spaces"])

SpaceId = Annotated[int, Path(ge=1, le=8, description="Id of a space, from 1 to 8.")]

_STRING: dict[str, Any] = {"type": "string"}
_CHANGE = {
    "type": "object",
    "properties": {"embeds_with": {**_STRING, "minLength": 1, "maxLength": 128}},
    "required": ["embeds_with"],
    "additionalProperties": False,
}
_FIELDS: dict[str, Any] = {
    "id": {"type": "integer"},
    "key": _STRING,
    "embeds_with": _STRING,
    "family": {"type": "array", "items": _STRING},
}
_MODELS = {
    "type": "object",
    "properties": {
        **_FIELDS,
        "vectors": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": list(_FIELDS),
    "additionalProperties": False,
}


@router.get("/v1/spaces/{space}/models", **schemas.answer(_MODELS))
async def show_models(request: Request, space: SpaceId, caller: Caller) -> Response:
    """Return which models may embed for a space, which does, and how many vectors each made."""
    caller.require("operator")
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        found = await models.find(connection, space)
        vectors = await models.made_by(connection, space)
    return json_response(orjson.dumps({**_described(found), "vectors": vectors}))


@router.patch("/v1/spaces/{space}", **schemas.body(_CHANGE, _MODELS))
async def change_space(request: Request, space: SpaceId, caller: Caller) -> Response:
    """Let another model of its family embed for a space from now on; nothing is embedded again."""
    caller.require("operator")
    value, _ = await read_json(request)
    model = _decode(value)
    service = doors_of(request).service
    async with reachable(), service.pool.acquire() as connection, connection.transaction():
        found = await models.embed_with(connection, space, model, caller.key_id)
        entry = Entry(caller.workspace, caller.key_id, "space.embeds_with", f"{space}:{model}")
        await auditing.record(connection, entry)
    await service.spaces.refresh()
    return json_response(orjson.dumps(_described(found)))


def _described(space: Space) -> dict[str, Any]:
    return {
        "id": space.id,
        "key": space.spec.key,
        "embeds_with": space.embeds_with,
        "family": sorted(family_of(space.spec)),
    }


def _decode(value: Any) -> str:
    if not isinstance(value, dict):
        raise invalid([Fault("", "wrong_type", "must be an object")])
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", "known: embeds_with")
        for name in value
        if name != "embeds_with"
    ]
    model = value.get("embeds_with")
    if not isinstance(model, str) or not 1 <= len(model) <= 128:
        faults.append(Fault("/embeds_with", "wrong_type", "must be the name of a model"))
    if faults:
        raise invalid(faults)
    return str(model)
