"""Describes every call as a value: method, path, query, body, and how its answer is read. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx

from engram.client.answers import bad_answer, json_of, object_of, value_of
from engram.client.types import (
    ContextOptions,
    ContextResult,
    ImportOptions,
    ItemError,
    MemoryChange,
    MemoryFields,
    MemoryRecord,
    SearchOptions,
    SearchResult,
    WorkspaceInfo,
)
from engram.errors import InvalidError
from engram.events import encode_json

T = TypeVar("T")
NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One HTTP call, the same bytes at every try.

    Attributes:
        path: path and query below the server's address.
        body: what is sent, encoded.
        read: turns a good answer into the result.
        done_if_gone: a 404 after a lost answer means that the first try did it.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    done_if_gone: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list and where the next one starts."""

    items: list[T]
    next_cursor: str | None


def add(
    content: str, fields: MemoryFields, *, wait: str | None, idempotency_key: str | None
) -> Call[MemoryRecord]:
    """POST /v1/memories."""
    path = _path("/v1/memories", wait=wait)
    body = {"content": content, **fields}
    return _post(path, body, object_of, idempotency_key)


def get(memory_id: str) -> Call[MemoryRecord]:
    """GET /v1/memories/{id}."""
    return Call("GET", memory_path(memory_id), object_of)


def update(memory_id: str, change: MemoryChange, *, if_match: int | None) -> Call[MemoryRecord]:
    """PATCH /v1/memories/{id}, only if it still has version ``if_match``."""
    headers = {"Content-Type": "application/json", **_if_match(if_match)}
    body = encode_json(change)
    return Call("PATCH", memory_path(memory_id), object_of, body, headers)


def delete(memory_id: str, *, if_match: int | None) -> Call[None]:
    """DELETE /v1/memories/{id}, only if it still has version ``if_match``."""
    headers = _if_match(if_match)
    return Call("DELETE", memory_path(memory_id), _nothing, headers=headers, done_if_gone=True)


def page(path: str, query: Mapping[str, Any], cursor: str | None, limit: int) -> Call[Page[Any]]:
    """GET one page of any list."""
    return Call("GET", _path(path, **query, cursor=cursor, limit=limit), _read_page)


def search(query: str, options: SearchOptions) -> Call[SearchResult]:
    """POST /v1/memories/search."""
    return _post("/v1/memories/search", {"query": query, **options}, object_of)


def context(query: str, options: ContextOptions) -> Call[ContextResult]:
    """POST /v1/memories/context."""
    return _post("/v1/memories/context", {"query": query, **options}, object_of)


def import_batch(ndjson: bytes, options: ImportOptions) -> Call[dict[str, Any]]:
    """POST /v1/memories/import of native items, one a line: at most 500 and 8 MB."""
    path = _path("/v1/memories/import", format="native", **options)
    headers = {"Content-Type": NDJSON, **_idempotent(None)}
    return Call("POST", path, object_of, ndjson, headers)


def import_file(
    query: Mapping[str, Any], content_type: str, size_bytes: int | None
) -> Call[dict[str, Any]]:
    """POST /v1/memories/import of a file whose bytes the caller brings."""
    headers = {"Content-Type": content_type, **_idempotent(None)}
    if size_bytes is not None:
        headers["Content-Length"] = str(size_bytes)
    return Call("POST", _path("/v1/memories/import", **query), object_of, headers=headers)


def import_job(import_id: str) -> Call[dict[str, Any]]:
    """GET /v1/imports/{id}."""
    return Call("GET", f"/v1/imports/{quote(import_id, safe='')}", object_of)


def import_errors(import_id: str) -> Call[list[ItemError]]:
    """GET /v1/imports/{id}/errors, all of them: meant for small imports."""
    return Call("GET", f"/v1/imports/{quote(import_id, safe='')}/errors", _read_lines)


def workspace() -> Call[WorkspaceInfo]:
    """GET /v1/workspace."""
    return Call("GET", "/v1/workspace", object_of)


def any_route(method: str, path: str, query: Mapping[str, Any], body: object) -> Call[Any]:
    """Call a route that has no method of its own; no body is sent for ``None``."""
    headers = {} if body is None else {"Content-Type": "application/json"}
    if method == "POST":
        headers |= _idempotent(None)
    content = b"" if body is None else encode_json(body)
    return Call(method, _path(path, **query), _json_or_nothing, content, headers)


def memory_path(memory_id: str, *rest: str) -> str:
    """Return the path of a memory, or of something under it.

    Raises:
        InvalidError: the id is empty, so the path would be another route.
    """
    if not memory_id:
        raise InvalidError("no_memory_id", "The memory id is empty.")
    return "/".join(("/v1/memories", quote(memory_id, safe=""), *rest))


def _post(
    path: str, body: Mapping[str, Any], read: Callable[[httpx.Response], T], key: str | None = None
) -> Call[T]:
    headers = {"Content-Type": "application/json", **_idempotent(key)}
    return Call("POST", path, read, encode_json(body), headers)


def _path(path: str, **query: object) -> str:
    # Query values are sent as text; what is None is not sent at all.
    pairs = {name: _query_text(value) for name, value in query.items() if value is not None}
    return f"{path}?{httpx.QueryParams(pairs)}" if pairs else path


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return encode_json(value).decode().strip('"')
    return str(value)


def _idempotent(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _read_page(response: httpx.Response) -> Page[Any]:
    body = object_of(response)
    items, cursor = body.get("items"), body.get("next_cursor")
    if not isinstance(items, list) or not isinstance(cursor, str | None):
        raise bad_answer()
    return Page(items, cursor)


def _read_lines(response: httpx.Response) -> list[Any]:
    return [value_of(line) for line in response.content.split(b"\n") if line]


def _nothing(_: httpx.Response) -> None:
    return None


def _json_or_nothing(response: httpx.Response) -> Any:
    return json_of(response) if response.content else None
