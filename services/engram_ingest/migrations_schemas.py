"""JSON Schemas of spaces and migrations, for the OpenAPI document."""

from engram.domain.migrating import NAMESPACE_STATES, PHASES
from engram.domain.migration_request import (
    DEFAULTS,
    MAX_LISTED,
    MAX_QUERIES,
    MAX_SAMPLE,
    MIN_SHARE,
    ORDERS,
)
from engram_ingest.decay_schemas import page
from engram_ingest.schemas import Schema

_STRING: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": ["number", "null"]}
_BOOLEAN: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_ID: Schema = {"type": "string", "format": "uuid"}
_OBJECT: Schema = {"type": "object"}
_MAYBE_OBJECT: Schema = {"type": ["object", "null"]}
_IDS: Schema = {"type": ["array", "null"], "items": _ID, "description": "Null is all of them."}
_NAMES: Schema = {"type": ["array", "null"], "items": _STRING, "maxItems": MAX_LISTED}


def _closed(properties: Schema, required: list[str] | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(properties) if required is None else required}


SPACE = _closed(
    {
        "id": _INTEGER,
        "key": _STRING,
        "provider": _STRING,
        "model": _STRING,
        "dimensions": _INTEGER,
        "embeds_with": {"type": "string", "description": "The model that embeds for it now."},
        "state": {"enum": ["active", "retired"]},
        "workspaces": _IDS,
        "workspaces_reading": _INTEGER,
        "namespaces_reading": _INTEGER,
        "vectors": {"type": "integer", "description": "By the planner's estimate."},
        "table_bytes": _INTEGER,
        "index_bytes": _INTEGER,
        "created_at": _TIME,
    }
)
SPACE_PAGE = page(SPACE)
_OPTIONS: Schema = {
    "order": {"enum": list(ORDERS), "default": DEFAULTS["order"]},
    "share": {
        "type": "number",
        "minimum": MIN_SHARE,
        "maximum": 1,
        "default": DEFAULTS["share"],
        "description": "Part of the provider's rate that the backfill may use.",
    },
    "sample": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_SAMPLE,
        "default": DEFAULTS["sample"],
        "description": "Memories that verify embeds again.",
    },
    "queries": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_QUERIES,
        "default": DEFAULTS["queries"],
        "description": "Shadow reads of a verify.",
    },
    "adapter": {"type": "boolean", "default": DEFAULTS["adapter"]},
}
OPTIONS = _closed(_OPTIONS, [])
NEW_PLAN = _closed(
    {
        "to": {"type": "string", "description": "provider:model@dimensions"},
        "workspaces": {**_NAMES, "description": "Ids or names; null is all of them."},
        "measure": {
            "type": "boolean",
            "default": True,
            "description": "Let the provider count the tokens of a few texts.",
        },
        **_OPTIONS,
    },
    ["to"],
)
CHOICE = _closed(
    {
        "workspace": {**_MAYBE, "description": "Id or name; the key's own where namespaces are."},
        "namespaces": _NAMES,
        "judged": {
            "type": ["array", "null"],
            "maxItems": MAX_QUERIES,
            "items": _closed(
                {
                    "query": _STRING,
                    "namespace": _MAYBE,
                    "relevant": {"type": "array", "items": _STRING},
                },
                ["query", "relevant"],
            ),
            "description": "Queries with the ids that should be found; for verify.",
        },
    },
    [],
)
MIGRATION = _closed(
    {
        "id": _ID,
        "phase": {"enum": list(PHASES)},
        "paused": _BOOLEAN,
        "source": _STRING,
        "target": _STRING,
        "source_space": {"type": ["integer", "null"]},
        "target_space": {"type": ["integer", "null"]},
        "workspaces": _IDS,
        "actor": _STRING,
        "options": _OBJECT,
        "plan": _OBJECT,
        "progress": _OBJECT,
        "namespaces": {"type": "object", "description": "How many are in each state."},
        "verdict": _MAYBE_OBJECT,
        "wish": _MAYBE,
        "error": _MAYBE_OBJECT,
        "held": {"type": "boolean", "description": "A migrator works on it now."},
        "phases": {"type": "object", "description": "When each phase was entered."},
        "created_at": _TIME,
        "updated_at": _TIME,
    }
)
MIGRATION_PAGE = page(MIGRATION)
NAMESPACE_PAGE = page(
    _closed(
        {
            "workspace": _ID,
            "namespace": _STRING,
            "state": {"enum": list(NAMESPACE_STATES)},
            "rows": _INTEGER,
            "missing": _INTEGER,
            "dead": _INTEGER,
            "verdict": _MAYBE_OBJECT,
            "updated_at": _TIME,
        }
    )
)
MISMATCH_PAGE = page(
    _closed(
        {
            "workspace": _ID,
            "namespace": _STRING,
            "memory_id": _ID,
            "version": _INTEGER,
            "class": _STRING,
            "error": _STRING,
        }
    )
)
