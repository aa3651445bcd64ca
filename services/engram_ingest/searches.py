"""Routes that ask: search and the context block."""

import time
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from engram import metrics
from engram_ingest import schemas
from engram_ingest.bodies import read_json
from engram_ingest.dependencies import MemoryCaller, json_response
from engram_ingest.search import Searcher, decode_context, decode_search

router = APIRouter(tags=["search"])


@router.post("/v1/memories/search", **schemas.body(schemas.SEARCH, schemas.RESULTS))
async def search(request: Request, caller: MemoryCaller) -> Response:
    """Return the memories nearest in meaning to a query."""
    started = time.perf_counter()
    value, _ = await read_json(request)
    answer: dict[str, Any] = await _searcher(request).search(caller.workspace, decode_search(value))
    metrics.SEARCH_SECONDS.labels(answer["route"]).observe(time.perf_counter() - started)
    return json_response(orjson.dumps(answer))


@router.post("/v1/memories/context", **schemas.body(schemas.CONTEXT, schemas.BLOCK))
async def context(request: Request, caller: MemoryCaller) -> Response:
    """Return a block for a system prompt, under a token limit."""
    value, _ = await read_json(request)
    answer = await _searcher(request).context(caller.workspace, decode_context(value))
    return json_response(orjson.dumps(answer))


def _searcher(request: Request) -> Searcher:
    searcher: Searcher = request.app.state.searcher
    return searcher
