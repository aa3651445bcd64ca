"""JSON Schemas for the OpenAPI document, from the same field table that the decoder uses."""

from typing import Any

from engram.domain.fields import FIELDS
from engram.domain.keys import SCOPES

Schema = dict[str, Any]


def _object(
    properties: Schema, required: list[str] | None = None, *, closed: bool = True
) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if closed:
        schema["additionalProperties"] = False
    return schema


def _page(item: Schema) -> Schema:
    cursor = {"type": ["string", "null"]}
    return _object(
        {"items": {"type": "array", "items": item}, "next_cursor": cursor}, ["items", "next_cursor"]
    )


_STRING: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_INTEGER: Schema = {"type": "integer"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ID: Schema = {"type": "string", "format": "uuid"}

NEW_MEMORY = _object({f.name: dict(f.schema) for f in FIELDS if f.writable}, ["content"])
PATCH = _object({f.name: dict(f.schema) for f in FIELDS if f.patchable and f.writable})

RECORD = _object(
    {
        "id": _ID,
        "namespace": _STRING,
        "content": _STRING,
        "version": _INTEGER,
        "state": {"enum": ["active", "superseded", "merged", "archived", "deleted"]},
        "user_id": _MAYBE,
        "agent_id": _MAYBE,
        "session_id": _MAYBE,
        "app_id": _MAYBE,
        "metadata": {"type": "object"},
        "categories": {"type": "array", "items": _STRING},
        "importance": {"type": "number"},
        "pinned": {"type": "boolean"},
        "source": _STRING,
        "external_id": _MAYBE,
        "merged_into": _MAYBE,
        "created_at": _TIME,
        "updated_at": _TIME,
        "expires_at": _MAYBE_TIME,
        "valid_until": _MAYBE_TIME,
        "last_accessed_at": _MAYBE_TIME,
        "access_count": _INTEGER,
        "embedded": {"type": "boolean"},
        "folded": {"type": "boolean"},
    },
    ["id", "namespace", "content", "version", "state", "embedded"],
)
RECORD_PAGE = _page(RECORD)
HISTORY = _page(
    _object(
        {
            "version": _INTEGER,
            "content": _STRING,
            "event": {"enum": ["created", "updated"]},
            "at": _TIME,
            "actor": _STRING,
        }
    )
)
FILTERS: Schema = {
    "type": ["object", "null"],
    "description": "AND, OR, NOT over fields; operators eq, ne, in, gt, gte, lt, lte, contains, "
    "icontains (docs/search.md).",
}
SEARCH = _object(
    {
        "query": {"type": "string", "minLength": 1},
        "namespace": _MAYBE,
        "filters": FILTERS,
        "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 100, "default": 10},
        "min_score": {"type": ["number", "null"], "minimum": -1, "maximum": 1},
        "rank": {"enum": ["similarity", "blended", None], "default": "similarity"},
    },
    ["query"],
)
RESULTS = _object(
    {
        "results": {
            "type": "array",
            "items": _object(
                {
                    "memory": RECORD,
                    "score": {"type": "number"},
                    "similar": {"type": "array", "items": _ID},
                },
                ["memory", "score", "similar"],
            ),
        },
        "space": _MAYBE,
        "route": {"enum": ["exact", "indexed", "lexical"]},
        "degraded": {"type": "boolean"},
    },
    ["results", "space", "route", "degraded"],
)
CONTEXT = _object(
    {
        "query": {"type": "string", "minLength": 1},
        "namespace": _MAYBE,
        "filters": FILTERS,
        "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 100},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1, "maximum": 100000},
        "format": {"enum": ["bullets", "text", "xml", None], "default": "bullets"},
    },
    ["query"],
)
BLOCK = _object(
    {"context": _STRING, "memories": {"type": "array", "items": _ID}, "tokens": _INTEGER},
    ["context", "memories", "tokens"],
)
REPORT = _object(
    {
        "format": _STRING,
        **dict.fromkeys(
            ("received", "imported", "updated", "duplicates", "superseded", "skipped", "failed"),
            _INTEGER,
        ),
        "by_namespace": {"type": "object", "additionalProperties": _INTEGER},
        "warnings": {"type": "array", "items": _STRING},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
    ["format", "received", "imported", "failed"],
)
WORKSPACE = _object(
    {
        "id": _ID,
        "name": _STRING,
        "memory_count": _INTEGER,
        "by_state": {"type": "object", "additionalProperties": _INTEGER},
        "vectors": {"type": "object", "additionalProperties": {"type": "object"}},
        "usage": {"type": "object"},
    }
)
NEW_KEY = _object(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": 100},
        "scopes": {"type": "array", "items": {"enum": list(SCOPES)}},
        "expires_at": _MAYBE_TIME,
    },
    ["name"],
)
KEY = _object(
    {
        "id": _STRING,
        "name": _STRING,
        "scopes": {"type": "array", "items": _STRING},
        "created_at": _TIME,
        "expires_at": _MAYBE_TIME,
        "revoked_at": _MAYBE_TIME,
        "key": {"type": "string", "description": "Only in the answer that created it."},
    }
)
KEY_PAGE = _page(KEY)
_LETTER: Schema = {
    "id": _STRING,
    "kind": {"enum": ["embedding", "ingest"]},
    "class": {"type": "string", "description": "Class of a provider's error, or an error code."},
    "error": _STRING,
    "attempts": _INTEGER,
    "first_at": _TIME,
    "last_at": _TIME,
    "age_s": {"type": "number", "description": "Seconds since the first failure."},
    "discarded_at": _MAYBE_TIME,
    "memory_id": _MAYBE,
    "space": _MAYBE,
    "subject": _MAYBE,
}
DEAD_LETTER_PAGE = _page(_object(_LETTER, list(_LETTER)))
DEAD_LETTER = _object(
    {
        **_LETTER,
        "payload": {"type": "string", "description": "Only of kind ingest: what was sent."},
        "payload_encoding": {"enum": ["utf-8", "base64"]},
    },
    list(_LETTER),
)
LETTERS = _object(
    {
        "ids": {"type": ["array", "null"], "items": _STRING, "maxItems": 500},
        "kind": {"enum": ["embedding", "ingest", None]},
        "class": _MAYBE,
        "all": {"type": ["boolean", "null"], "description": "Instead of ids or a filter."},
        "dry_run": {"type": ["boolean", "null"], "default": False},
        "cursor": _MAYBE,
    }
)
_LETTER_ERRORS: Schema = {
    "type": "array",
    "items": _object({"id": _STRING, "code": _STRING, "detail": _STRING}),
}


def _counts(*names: str) -> Schema:
    counts = dict.fromkeys(("matched", *names, "failed"), _INTEGER)
    rest = {"dry_run": {"type": "boolean"}, "errors": _LETTER_ERRORS, "next_cursor": _MAYBE}
    return _object({**counts, **rest}, [*counts, *rest])


REPLAYED = _counts("replayed", "dropped")
DISCARDED = _counts("discarded")
AUDIT_PAGE = _page(
    _object(
        {
            "id": _ID,
            "actor": _STRING,
            "action": _STRING,
            "subject": _MAYBE,
            "counts": {"type": "object"},
            "format": _MAYBE,
            "version": _STRING,
            "duration_s": {"type": ["number", "null"]},
            "at": _TIME,
        }
    )
)
PROBLEM = _object(
    {
        "type": _STRING,
        "title": _STRING,
        "status": _INTEGER,
        "detail": _STRING,
        "code": _STRING,
        "cure": _STRING,
        "errors": {
            "type": "array",
            "items": _object({"pointer": _STRING, "code": _STRING, "detail": _STRING}),
        },
    },
    ["type", "title", "status", "detail", "code", "errors"],
)
ANY_EXPORT: Schema = {
    "description": 'A JSON array, an object such as {"memories": […]}, or a file of any other '
    "format of docs/import.md.",
    "type": ["array", "object"],
}


def problems() -> dict[str, Any]:
    """Return the documentation of error answers, for a route's decorator."""
    content = {"application/problem+json": {"schema": PROBLEM}}
    listed = {code: {"description": title, "content": content} for code, title in _STATUSES.items()}
    return {"responses": listed}


def answer(schema: Schema, status: int = 200) -> dict[str, Any]:
    """Return the documentation of a route that answers JSON."""
    documented = problems()
    documented["responses"][status] = {
        "description": "Done",
        "content": {"application/json": {"schema": schema}},
    }
    return documented


def download(media_types: list[str]) -> dict[str, Any]:
    """Return the documentation of a route that streams a document of one of these types."""
    documented = problems()
    content: Schema = {media_type: {"schema": _STRING} for media_type in dict.fromkeys(media_types)}
    documented["responses"][200] = {"description": "Done", "content": content}
    return documented


def body(request: Schema, response: Schema, status: int = 200) -> dict[str, Any]:
    """Return the documentation of a route that reads and answers JSON."""
    content = {"application/json": {"schema": request}}
    extra = {"requestBody": {"required": True, "content": content}}
    return {**answer(response, status), "openapi_extra": extra}


_STATUSES = {
    400: "Malformed",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
    422: "Invalid",
    429: "Too busy",
    503: "Unavailable",
}
