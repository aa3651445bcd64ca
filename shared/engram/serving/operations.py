"""The operations port: /healthz, /readyz and /metrics, unauthenticated."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a service is not ready, and the cure."""

    check: str
    detail: str
    cure: str


Check = Callable[[], Awaitable[Finding | None]]
PATHS = ("/healthz", "/readyz", "/metrics")


def operations_app(service: str, checks: list[Check]) -> Starlette:
    """Return the application of the operations port.

    Args:
        service: named in the answers.
        checks: each returns what is wrong, or None; asked anew for every /readyz.
    """

    async def healthz(_: Request) -> Response:
        return _json({"service": service, "status": "ok"})

    async def readyz(_: Request) -> Response:
        found = [finding for check in checks if (finding := await check())]
        listed = [{"check": f.check, "detail": f.detail, "cure": f.cure} for f in found]
        body = {"service": service, "status": "waiting" if found else "ready", "findings": listed}
        return _json(body, 503 if found else 200)

    async def show_metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    endpoints = dict(zip(PATHS, (healthz, readyz, show_metrics), strict=True))
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in endpoints.items()])


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
