"""What routes ask FastAPI for: the caller, the doors, and answers from bytes."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader
from starlette.responses import Response

from engram_ingest.authentication import Principal
from engram_ingest.doors import Doors

# Declared for the OpenAPI document; the header is read as Bearer or Token by the authenticator.
_HEADER = APIKeyHeader(
    name="Authorization", description="Bearer KEY or Token KEY", auto_error=False
)


def doors_of(request: Request) -> Doors:
    """Return the doors of the application that serves this request."""
    doors: Doors = request.app.state.doors
    return doors


async def _caller(request: Request, header: Annotated[str | None, Depends(_HEADER)]) -> Principal:
    return await doors_of(request).authenticator.principal(header)


Caller = Annotated[Principal, Depends(_caller)]


async def _reader_and_writer(caller: Caller) -> Principal:
    caller.require("memories")
    return caller


MemoryCaller = Annotated[Principal, Depends(_reader_and_writer)]


def json_response(body: bytes, status: int = 200, *, replayed: bool = False) -> Response:
    """Return JSON bytes as they are."""
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    return Response(body, status, headers, "application/json")
