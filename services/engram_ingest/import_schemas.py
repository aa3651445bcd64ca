"""JSON Schemas of imports, for the OpenAPI document."""

from typing import Any

from engram_ingest.schemas import ANY_EXPORT, REPORT, Schema, body, problems

_STRING: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_INTEGER: Schema = {"type": "integer"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ID: Schema = {"type": "string", "format": "uuid"}


def _closed(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_TALLY: Schema = {
    **dict.fromkeys(
        ("received", "imported", "updated", "duplicates", "superseded", "skipped", "failed"),
        _INTEGER,
    ),
    "by_namespace": {"type": "object", "additionalProperties": _INTEGER},
    "warnings": {"type": "array", "items": _STRING},
}
_MAYBE_INTEGER: Schema = {"type": ["integer", "null"]}
IMPORT = _closed(
    {
        "id": _ID,
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "strategy": {"enum": ["skip", "merge", "replace"]},
        "dry_run": {"type": "boolean"},
        "namespace": _MAYBE,
        "format": {"type": ["string", "null"], "description": "null until it was detected."},
        **_TALLY,
        "archived": {"type": "integer", "description": "Memories a replacement has archived."},
        "embedded": {"type": ["integer", "null"], "description": "Its memories with a vector."},
        "pending": {"type": ["integer", "null"], "description": "Its memories that wait for one."},
        "body_bytes": _INTEGER,
        "read_bytes": _INTEGER,
        "ahead": {"type": "integer", "description": "Imports of the workspace that go first."},
        "eta_s": {
            "type": ["number", "null"],
            "description": "Seconds until all is stored; once it is, until all is embedded.",
        },
        "error": {
            "type": ["object", "null"],
            "properties": {"code": _STRING, "detail": _STRING, "cure": _STRING},
        },
        "created_at": _TIME,
        "started_at": _MAYBE_TIME,
        "finished_at": _MAYBE_TIME,
        "restored_at": _MAYBE_TIME,
    },
    ["id", "state", "strategy", "dry_run", "received", "created_at"],
)
_REPORT: Schema = {
    **REPORT,
    "properties": {
        **REPORT["properties"],
        "archived": {"type": "integer", "description": "With replace: memories it has archived."},
        "import_id": {**_ID, "description": "With replace: what `/restore` undoes it by."},
    },
}
IMPORT_PAGE = _closed(
    {"items": {"type": "array", "items": IMPORT}, "next_cursor": _MAYBE}, ["items", "next_cursor"]
)
IMPORT_ERROR = _closed(
    {
        "line": _MAYBE_INTEGER,
        "index": _INTEGER,
        "external_id": _MAYBE,
        "code": _STRING,
        "pointer": _STRING,
        "detail": _STRING,
    },
    ["line", "index", "external_id", "code", "pointer", "detail"],
)


def ndjson(line: Schema) -> dict[str, Any]:
    """Return the documentation of a route that answers one JSON object a line."""
    documented = problems()
    documented["responses"][200] = {
        "description": "Done",
        "content": {"application/x-ndjson": {"schema": line}},
    }
    return documented


def import_body() -> dict[str, Any]:
    """Return the documentation of the import route: a report at once, or a job."""
    documented = body(ANY_EXPORT, _REPORT)
    documented["openapi_extra"]["requestBody"]["content"] |= {
        "application/x-ndjson": {"schema": {}},
        "application/octet-stream": {"schema": {}},
    }
    documented["responses"][202] = {
        "description": "The body is stored; its import runs as a job.",
        "headers": {"Location": {"description": "The job.", "schema": _STRING}},
        "content": {"application/json": {"schema": IMPORT}},
    }
    return documented
