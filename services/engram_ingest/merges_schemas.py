"""JSON Schemas of merges, runs, proposals and conflicts, for the OpenAPI document."""

from typing import Any

from engram_ingest.schemas import Schema, body

_STRING: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_BOOLEAN: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ID: Schema = {"type": "string", "format": "uuid"}
_MAYBE_ID: Schema = {"type": ["string", "null"], "format": "uuid"}
_COUNTS: Schema = {"type": "object", "additionalProperties": _INTEGER}
_GUARD: Schema = {"type": "object", "description": "What the guard said of the two texts."}


def _closed(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _page(item: Schema) -> Schema:
    return _closed({"items": _list(item), "next_cursor": _MAYBE})


_MERGE: Schema = {
    "id": _ID,
    "kind": {"enum": ["repeat", "near"]},
    "survivor": _ID,
    "member_count": _INTEGER,
    "run_id": _MAYBE_ID,
    "reason": _STRING,
    "rule_version": _STRING,
    "actor": _STRING,
    "created_at": _TIME,
    "undone_at": _MAYBE_TIME,
}
_MEMBER = _closed(
    {
        "memory_id": _ID,
        "version": _INTEGER,
        "cosine": {"type": ["number", "null"]},
        "guard": _GUARD,
        "state": _STRING,
        "content": _MAYBE,
        "undone_at": _MAYBE_TIME,
        "undone_by": _MAYBE,
    }
)
MERGE_PAGE = _page(_closed(_MERGE))
MERGE = _closed(
    {
        **_MERGE,
        "content": {"type": ["string", "null"], "description": "What survived."},
        "members": _list(_MEMBER),
        "next_cursor": {"type": ["string", "null"], "description": "Of further members."},
    }
)
UNDONE = _closed(
    {
        "restored": {"type": "integer", "description": "Memories that are themselves again."},
        "merges": {"type": "integer", "description": "Merges of which nothing is left."},
        "left": {
            **_COUNTS,
            "description": "Members that stay as they are: already, deleted, changed.",
        },
    }
)
RUN = _closed(
    {
        "id": _ID,
        "state": {"enum": ["running", "done", "cancelled", "capped", "failed"]},
        "actor": _STRING,
        "options": {"type": "object"},
        "counts": _COUNTS,
        "rule_version": _STRING,
        "merge_cap": {"type": ["integer", "null"]},
        "merged": {"type": "integer", "description": "Memories absorbed so far."},
        "restored": {"type": "integer", "description": "Of those, by undoing the run."},
        "error": {"type": ["object", "null"]},
        "started_at": _TIME,
        "finished_at": _MAYBE_TIME,
        "undone_at": _MAYBE_TIME,
    }
)
RUN_PAGE = _page(RUN)
_SIDE = _closed(
    {
        "id": _ID,
        "content": _STRING,
        "version": {"type": "integer", "description": "That was compared."},
        "current_version": _INTEGER,
        "state": _STRING,
        "pinned": _BOOLEAN,
        "importance": _NUMBER,
        "said_at": {**_TIME, "description": "When it got its text."},
    }
)
_FINDING: Schema = {
    "id": _ID,
    "stale": {"type": "boolean", "description": "One of the two has changed or gone since."},
    "namespace": _STRING,
    "cosine": _NUMBER,
    "reason": _STRING,
    "guard": _GUARD,
    "rule_version": _STRING,
    "run_id": _MAYBE_ID,
    "memories": {**_list(_SIDE), "minItems": 2, "maxItems": 2},
    "created_at": _TIME,
    "decided_at": _MAYBE_TIME,
    "decided_by": _MAYBE,
}
PROPOSAL = _closed(
    {
        **_FINDING,
        "state": {"enum": ["open", "accepted", "rejected"]},
        "survivor": _MAYBE_ID,
        "merge_id": _MAYBE_ID,
    }
)
PROPOSAL_PAGE = _page(PROPOSAL)
CONFLICT = _closed(
    {
        **_FINDING,
        "state": {"enum": ["open", "resolved"]},
        "newer": {**_ID, "description": "Of the two, the one that got its text later."},
        "kept": {**_MAYBE_ID, "description": "Once resolved; null when both were kept."},
    }
)
CONFLICT_PAGE = _page(CONFLICT)
ACCEPT: Schema = {
    "type": "object",
    "properties": {"survivor": {**_MAYBE_ID, "description": "Which of the two stays."}},
    "additionalProperties": False,
}
ACCEPTED = _closed({"id": _ID, "state": _STRING, "merge_id": _ID})
REJECTED = _closed({"id": _ID, "state": _STRING})
RESOLVE: Schema = {
    "type": "object",
    "properties": {"keep": {"type": "string", "description": "both, newer, older, or an id."}},
    "required": ["keep"],
    "additionalProperties": False,
}
RESOLVED = _closed({"id": _ID, "state": _STRING, "kept": _MAYBE_ID})


def optional_body(request: Schema, response: Schema) -> dict[str, Any]:
    """Return the documentation of a route whose body may be left out."""
    documented = body(request, response)
    documented["openapi_extra"]["requestBody"]["required"] = False
    return documented
