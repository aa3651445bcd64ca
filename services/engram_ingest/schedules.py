"""Routes about the table of sweeps: how often each is due, how it went, and running it now."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from engram.domain.memory import invalid
from engram.errors import ConflictError, Fault, NotFoundError
from engram.storage import sweeps
from engram.storage.connection import reachable
from engram.storage.records import as_time
from engram.storage.sweeps import Sweep
from engram_ingest import decay_schemas, schemas
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import Caller, doors_of, json_response

router = APIRouter(tags=["schedules"])

_LONGEST_S = 31_622_400


@router.get("/v1/schedules", **schemas.answer(decay_schemas.SCHEDULE_LIST))
async def list_schedules(request: Request, caller: Caller) -> Response:
    """Return every sweep of the system, with how its last run went and when it is due."""
    caller.require("operator")
    found = await _all(request)
    items = [_described(sweep) for sweep in found.values()]
    return json_response(orjson.dumps({"items": items, "next_cursor": None}))


@router.get("/v1/schedules/{name}", **schemas.answer(decay_schemas.SCHEDULE))
async def show_schedule(request: Request, name: str, caller: Caller) -> Response:
    """Return one sweep."""
    caller.require("operator")
    return json_response(orjson.dumps(_described(await _one(request, name))))


@router.patch(
    "/v1/schedules/{name}",
    **schemas.body(decay_schemas.SCHEDULE_CHANGE, decay_schemas.SCHEDULE),
)
async def change_schedule(request: Request, name: str, caller: Caller) -> Response:
    """Change how often a sweep is due, or switch it off or on."""
    caller.require("operator")
    value, _ = await read_json(request)
    every, enabled = _decode(value)
    await _one(request, name)
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        await sweeps.set_sweep(connection, name, every, enabled)
    return json_response(orjson.dumps(_described(await _one(request, name))))


@router.post("/v1/schedules/{name}/run", **schemas.answer(decay_schemas.SCHEDULE))
async def run_schedule(request: Request, name: str, caller: Caller) -> Response:
    """Make a sweep due now; a curator takes it within a second."""
    caller.require("operator")
    if not (await _one(request, name)).enabled:
        raise ConflictError(
            "schedule_off", f"The sweep {name} is switched off.", cure="Switch it on first."
        )
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        await sweeps.due_now(connection, name)
    return json_response(orjson.dumps(_described(await _one(request, name))))


async def _all(request: Request) -> dict[str, Sweep]:
    # The table is the system's, not a workspace's: the API's role has no right to it.
    async with reachable(), doors_of(request).service.pool.acquire() as connection:
        return {sweep.name: sweep for sweep in await sweeps.list_sweeps(connection)}


async def _one(request: Request, name: str) -> Sweep:
    found = (await _all(request)).get(name)
    if found is None:
        raise NotFoundError(
            "schedule_not_found",
            "There is no such sweep.",
            cure="List the schedules; a sweep appears once a curator has started.",
        )
    return found


def _described(sweep: Sweep) -> dict[str, Any]:
    outcome = "failed" if sweep.last_error else "ok"
    return {
        "name": sweep.name,
        "every_s": sweep.every_s,
        "enabled": sweep.enabled,
        "running": sweep.running,
        "next_due": as_time(sweep.next_due),
        "last_started": as_time(sweep.last_started),
        "last_finished": as_time(sweep.last_finished),
        "last_duration_s": sweep.last_duration_s,
        "last_outcome": outcome if sweep.last_finished else None,
        "last_error": sweep.last_error,
    }


def _decode(value: Any) -> tuple[timedelta | None, bool | None]:
    if not isinstance(value, dict):
        raise invalid([Fault("", "wrong_type", "must be an object")])
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", "known: every_s, enabled")
        for name in value
        if name not in _CHECKS
    ]
    checked = (check(value[name]) for name, check in _CHECKS.items() if name in value)
    faults += (fault for fault in checked if fault is not None)
    if not value:
        faults.append(Fault("", "empty", "names no field; known: every_s, enabled"))
    if faults:
        raise invalid(faults)
    every_s = value.get("every_s")
    return None if every_s is None else timedelta(seconds=every_s), value.get("enabled")


def _interval(value: Any) -> Fault | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Fault("/every_s", "wrong_type", "must be a number of seconds")
    if not 1 <= value <= _LONGEST_S:
        return Fault("/every_s", "out_of_range", "must be from one second to 366 days")
    return None


def _switch(value: Any) -> Fault | None:
    return None if isinstance(value, bool) else Fault("/enabled", "wrong_type", "must be a boolean")


_CHECKS: dict[str, Callable[[Any], Fault | None]] = {"every_s": _interval, "enabled": _switch}
