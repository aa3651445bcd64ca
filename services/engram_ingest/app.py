"""The HTTP application: its routes, its errors, its measurements, its OpenAPI document."""

import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from engram import metrics, tracing
from engram_ingest import (
    audit,
    dead_letters,
    decay,
    dedup_start,
    export,
    import_jobs,
    imports,
    memories,
    merges,
    merges_runs,
    migrations,
    migrations_asking,
    problems,
    proposals,
    proposals_conflicts,
    schedules,
    searches,
    space_models,
    workspace,
)
from engram_ingest.bodies import PATIENCE_S
from engram_ingest.doors import Doors
from engram_ingest.search import Searcher

# Searches and imports come before /v1/memories/{memory_id}: "import" and "search" are no ids.
_ROUTES: Final = (
    searches,
    imports,
    memories,
    workspace,
    dead_letters,
    export,
    audit,
    import_jobs,
    decay,
    schedules,
    merges,
    merges_runs,
    dedup_start,
    proposals,
    proposals_conflicts,
    space_models,
    migrations,
    migrations_asking,
)


def build_app(
    doors: Doors | None = None,
    searcher: Searcher | None = None,
    *,
    body_patience_s: float = PATIENCE_S,
) -> FastAPI:
    """Return the application; without doors it can only describe itself.

    Args:
        doors: what the routes work with.
        searcher: answers searches.
        body_patience_s: seconds a client may take to send one body.
    """
    app = FastAPI(
        title="engram",
        version=version("engram"),
        summary="Memories of AI agents: embedded, searchable, free of duplicates and movable.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.doors = doors
    app.state.searcher = searcher
    app.state.body_patience_s = body_patience_s
    problems.install(app)
    for module in _ROUTES:
        app.include_router(module.router)
    app.middleware("http")(_measured)
    return app


async def _measured(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    started = time.perf_counter()
    caused = tracing.checked(request.headers.get(tracing.HEADER))
    with tracing.span("request", follows=[caused], method=request.method):
        response = await call_next(request)
        tracing.note(route=_route(request), status=response.status_code)
        trace = tracing.exemplar()
    status = f"{response.status_code // 100}xx"
    metrics.REQUEST_SECONDS.labels(_route(request), status).observe(
        time.perf_counter() - started, trace
    )
    request.app.state.doors.runner.pace.note(_route(request))
    return response


def _route(request: Request) -> str:
    # The route's pattern, never the path: an id in a label would be a series each.
    return str(getattr(request.scope.get("route"), "path", "none"))
