"""Errors as application/problem+json (RFC 9457), for every error the API can answer."""

import math

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from engram.errors import EngramError, Fault, InvalidError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_OF_STATUS = {404: "no_such_route", 405: "wrong_method"}


def problem(error: EngramError) -> Response:
    """Return the answer for an error."""
    listed = [{"pointer": f.pointer, "code": f.code, "detail": f.detail} for f in error.faults]
    body = _body(error.status, error.title, error.code, error.detail, error.cure, listed)
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.status == 408:
        # Whatever still trickles in is not waited for.
        headers["Connection"] = "close"
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="engram"'
    return Response(body, error.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    @app.exception_handler(EngramError)
    async def known(_: Request, error: EngramError) -> Response:
        return problem(error)

    @app.exception_handler(HTTPException)
    async def of_routing(_: Request, error: HTTPException) -> Response:
        code = _OF_STATUS.get(error.status_code, "http_error")
        detail = "There is no such route, or not with this method."
        body = _body(error.status_code, str(error.detail), code, detail, "See openapi.json.", [])
        return Response(body, error.status_code, dict(error.headers or {}), MEDIA_TYPE)

    @app.exception_handler(RequestValidationError)
    async def of_parameters(_: Request, error: RequestValidationError) -> Response:
        return problem(_invalid_parameters(error))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        route = getattr(request.scope.get("route"), "path", "?")
        log.error("request failed", route=route, exc_info=error)
        body = _body(
            500, "Internal error", "internal", "The server failed.", "Look into its log.", []
        )
        return Response(body, 500, {}, MEDIA_TYPE)


def _invalid_parameters(error: RequestValidationError) -> InvalidError:
    # Pydantic's messages say what a value should be and never quote it.
    faults = tuple(
        Fault(f"/{found['loc'][-1]}", str(found["type"]), str(found["msg"]))
        for found in error.errors()
    )
    named = ", ".join(fault.pointer[1:] for fault in faults)
    return InvalidError(
        "invalid_parameter",
        f"A parameter does not fit: {named}.",
        cure="Correct it; openapi.json names what each takes.",
        faults=faults,
    )


def _body(
    status: int, title: str, code: str, detail: str, cure: str, errors: list[dict[str, str]]
) -> bytes:
    return orjson.dumps(
        {
            "type": f"urn:engram:error:{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "cure": cure,
            "errors": errors,
        }
    )
