"""JSON Schemas of decay and of schedules, for the OpenAPI document."""

from typing import Any

from engram.domain.decay import DEFAULT
from engram.domain.decay_settings import MAX_DAYS, MIN_FLOOR, MIN_HALF_LIFE_DAYS
from engram_ingest.schemas import Schema

_STRING: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_INTEGER: Schema = {"type": "integer"}
_BOOLEAN: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ID: Schema = {"type": "string", "format": "uuid"}


def _closed(properties: Schema, *, required: bool = True) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(properties)} if required else schema


def page(item: Schema) -> Schema:
    """Return the schema of a page of a list."""
    return _closed({"items": {"type": "array", "items": item}, "next_cursor": _MAYBE})


def _field(name: str, kind: str, **limits: Any) -> Schema:
    return {"type": [kind, "null"], "default": getattr(DEFAULT, name), **limits}


OVERRIDE_FIELDS: Schema = {
    "half_life_days": _field(
        "half_life_days", "number", minimum=MIN_HALF_LIFE_DAYS, maximum=MAX_DAYS
    ),
    "floor": _field(
        "floor", "number", minimum=0, maximum=1, description=f"0, or from {MIN_FLOOR:g} to 1."
    ),
    "grace_days": _field("grace_days", "number", minimum=0, maximum=MAX_DAYS),
    "enabled": _field("enabled", "boolean"),
}
CHANGES = _closed(OVERRIDE_FIELDS, required=False)
_OWN: Schema = _closed({name: {"type": field["type"]} for name, field in OVERRIDE_FIELDS.items()})
_POLICY: Schema = _closed(
    {name: {"type": field["type"][0]} for name, field in OVERRIDE_FIELDS.items()}
)
SETTINGS = _closed(
    {"namespace": _MAYBE, "prefix": _MAYBE, "own": _OWN, "effective": _POLICY, "defaults": _POLICY}
)
RULE = _closed({"namespace": _MAYBE, "prefix": _MAYBE, **_OWN["properties"]})
RULE_PAGE = page(RULE)
PREVIEW = _closed(
    {
        "now": {**_TIME, "description": "The instant that ages are counted to."},
        "withheld_s": {"type": "number", "description": "Course of the clock that does not count."},
        "namespaces": {"type": "integer", "description": "That hold anything due within 30 days."},
        **dict.fromkeys(("due", "archived", "slowed", "due_in_7_days", "due_in_30_days"), _INTEGER),
        "items": {
            "type": "array",
            "description": "At most 500 of them, those with most due first.",
            "items": _closed(
                {
                    "namespace": _STRING,
                    **dict.fromkeys(
                        ("active", "due", "archived", "due_in_7_days", "due_in_30_days"), _INTEGER
                    ),
                    "slowed": _BOOLEAN,
                }
            ),
        },
    }
)
NEW_RUN = _closed({"namespace": _MAYBE, "dry_run": {"type": ["boolean", "null"]}}, required=False)
RUN = _closed(
    {
        "id": _ID,
        "state": {"enum": ["queued", "running", "done", "failed"]},
        "actor": _STRING,
        "namespace": _MAYBE,
        "archived": _INTEGER,
        "restored": _INTEGER,
        "slowed": {"type": "integer", "description": "Namespaces held back by the cap."},
        "slowed_namespaces": {"type": "array", "items": _STRING},
        "error": _MAYBE,
        "created_at": _TIME,
        "started_at": _MAYBE_TIME,
        "finished_at": _MAYBE_TIME,
    }
)
RUN_PAGE = page(RUN)
ARCHIVED_PAGE = page(
    _closed(
        {
            "memory_id": _ID,
            "namespace": _STRING,
            "importance_left": {"type": "number"},
            "archived_at": _TIME,
            "restored_at": _MAYBE_TIME,
        }
    )
)
RESTORED = _closed({"restored": _INTEGER, "kept": _INTEGER})
SCHEDULE = _closed(
    {
        "name": _STRING,
        "every_s": {"type": "number"},
        "enabled": _BOOLEAN,
        "running": _BOOLEAN,
        "next_due": _TIME,
        "last_started": _MAYBE_TIME,
        "last_finished": _MAYBE_TIME,
        "last_duration_s": {"type": ["number", "null"]},
        "last_outcome": {"enum": ["ok", "failed", None]},
        "last_error": _MAYBE,
    }
)
SCHEDULE_LIST = _closed({"items": {"type": "array", "items": SCHEDULE}, "next_cursor": _MAYBE})
SCHEDULE_CHANGE = _closed(
    {
        "every_s": {"type": "number", "minimum": 1, "maximum": 31_622_400},
        "enabled": _BOOLEAN,
    },
    required=False,
)
