"""The operations port: /healthz, /readyz, /metrics and /pipeline, unauthenticated."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engram.errors import EngramError


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and the cure.

    Attributes:
        severity: a failure makes the service not ready; a warning is only told.
    """

    check: str
    detail: str
    cure: str
    severity: Literal["failure", "warning"] = "failure"


Check = Callable[[], Awaitable[Sequence[Finding]]]
Picture = Callable[[], Awaitable[dict[str, Any]]]
PATHS = ("/healthz", "/readyz", "/metrics", "/pipeline")


async def _nothing() -> dict[str, Any]:
    return {}


def operations_app(service: str, checks: list[Check], picture: Picture = _nothing) -> Starlette:
    """Return the application of the operations port.

    Args:
        service: named in the answers.
        checks: each returns what is wrong; all are asked at the same time for every /readyz.
        picture: of the pipeline, for `engram status`.
    """

    async def healthz(_: Request) -> Response:
        return _json({"service": service, "status": "ok"})

    async def readyz(_: Request) -> Response:
        found = [
            one for many in await asyncio.gather(*(check() for check in checks)) for one in many
        ]
        waiting = any(finding.severity == "failure" for finding in found)
        listed = [asdict(finding) for finding in found]
        body = {"service": service, "status": "waiting" if waiting else "ready", "findings": listed}
        return _json(body, 503 if waiting else 200)

    async def show_metrics(request: Request) -> Response:
        # OpenMetrics for who asks for it: exemplars are told in no other format.
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"Content-Type": content_type})

    async def pipeline(_: Request) -> Response:
        try:
            return _json({"service": service, **await picture()})
        except EngramError as error:
            body = {"service": service, "code": error.code, "detail": error.detail}
            return _json({**body, "cure": error.cure}, 503)

    endpoints = dict(zip(PATHS, (healthz, readyz, show_metrics, pipeline), strict=True))
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in endpoints.items()])


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
