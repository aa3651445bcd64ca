"""What a field of a memory may hold: a check that returns the clean value, and a JSON Schema."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

MAX_CONTENT = 32_768
MAX_RAW_CONTENT = 2 * MAX_CONTENT
MAX_NAMESPACE = 256
MAX_OWNER_ID = MAX_NAMESPACE - len("session:")
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 16
MAX_CATEGORIES = 50

type_of_json = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class FieldError(ValueError):
    """A value breaks the rule of its field.

    Attributes:
        code: stable reason.
        where: JSON pointer below the field, usually empty.
    """

    def __init__(self, code: str, detail: str, where: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.where = where


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, its check and its JSON Schema.

    Attributes:
        name: the key in JSON.
        check: takes the JSON value, returns the value to store, raises `FieldError`.
        schema: JSON Schema of what ``check`` accepts, for the OpenAPI document.
        writable: may be given by a publisher; otherwise only an import may carry it.
        patchable: may be changed later. A memory's namespace and owners never change.
    """

    name: str
    check: Callable[[Any], Any]
    schema: Mapping[str, Any]
    writable: bool = True
    patchable: bool = True


def _wrong_type(value: Any, wanted: str) -> FieldError:
    return FieldError("wrong_type", f"must be {wanted}, not {type_of_json.get(type(value), '?')}")


def check_content(value: Any) -> str:
    """Return content as it was sent: 1 to 32,768 code points once trimmed."""
    if not isinstance(value, str):
        raise _wrong_type(value, "a string")
    if "\0" in value:
        raise FieldError("nul_character", "holds U+0000, which cannot be stored")
    length = len(value.strip())
    if length == 0:
        raise FieldError("empty", "is empty")
    if length > MAX_CONTENT or len(value) > MAX_RAW_CONTENT:
        raise FieldError("too_long", f"has {length:,} characters; at most {MAX_CONTENT:,} fit")
    _refuse_surrogates(value)
    return value


def _refuse_surrogates(value: str) -> None:
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FieldError("lone_surrogate", "holds half of a surrogate pair") from None


def label(max_length: int) -> Callable[[Any], str | None]:
    """Return a check for a short name: trimmed, one line, no control characters, or null."""

    def check(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise _wrong_type(value, "a string")
        text = value.strip()
        if not text:
            raise FieldError("empty", "is empty; leave it out instead")
        if len(text) > max_length:
            raise FieldError("too_long", f"has {len(text)} characters; at most {max_length} fit")
        if not text.isprintable():
            _refuse_unprintable(text)
        return text

    return check


def _refuse_unprintable(text: str) -> None:
    _refuse_surrogates(text)
    if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise FieldError("control_character", "holds a control character")


def check_metadata(value: Any) -> dict[str, Any]:
    """Return a JSON object of at most 16 KB, 16 levels deep, free of NaN and NUL."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong_type(value, "an object")
    if value:
        _measure(value)
    return value


def _measure(root: dict[str, Any]) -> None:
    # Size is estimated while walking, so that nothing large is ever serialised to be measured.
    size = 2
    stack: list[tuple[Any, int]] = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_METADATA_DEPTH:
            raise FieldError("too_deep", f"nests deeper than {MAX_METADATA_DEPTH} levels")
        size += _size_of(node)
        if isinstance(node, dict):
            for key, item in node.items():
                size += _size_of(key)
                # Most values are short texts: only what nests, or may nest too deep, is kept.
                if depth < MAX_METADATA_DEPTH and isinstance(item, str):
                    size += _size_of(item)
                else:
                    stack.append((item, depth + 1))
        elif isinstance(node, list):
            stack.extend((item, depth + 1) for item in node)
        if size > MAX_METADATA_BYTES:
            raise FieldError("too_large", f"exceeds {MAX_METADATA_BYTES:,} bytes")


def _size_of(node: Any) -> int:
    if isinstance(node, str):
        if "\0" in node:
            raise FieldError("nul_character", "holds U+0000, which cannot be stored")
        if node.isascii():
            return len(node) + 4
        _refuse_surrogates(node)
        return len(node.encode()) + 4
    if isinstance(node, float) and not math.isfinite(node):
        raise FieldError("not_finite", "holds a number that is not finite")
    if isinstance(node, int) and not -(1 << 63) <= node < 1 << 64:
        raise FieldError("number_too_large", "holds an integer beyond 64 bits")
    return 8


def check_categories(value: Any) -> list[str]:
    """Return a list of at most 50 short labels; null is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong_type(value, "an array")
    if len(value) > MAX_CATEGORIES:
        raise FieldError("too_many", f"has {len(value)} entries; at most {MAX_CATEGORIES} fit")
    clean: list[str] = []
    for position, entry in enumerate(value):
        try:
            text = _CATEGORY(entry)
        except FieldError as error:
            raise FieldError(error.code, str(error), f"/{position}") from None
        if text is None:
            raise FieldError("wrong_type", "must be a string, not null", f"/{position}")
        clean.append(text)
    return clean


_CATEGORY = label(128)


def check_importance(value: Any) -> float:
    """Return a number in (0, 1]; null is the default 0.5."""
    if value is None:
        return 0.5
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(value, "a number")
    if not 0 < value <= 1:
        raise FieldError("out_of_range", "must be above 0 and at most 1")
    return float(value)


def check_pinned(value: Any) -> bool:
    """Return a boolean; null is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _wrong_type(value, "a boolean")
    return value


def check_time(value: Any) -> datetime | None:
    """Return an instant in UTC from an RFC 3339 string with an offset; null is none."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(value, "an RFC 3339 time such as 2026-01-31T09:00:00Z")
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise FieldError("not_a_time", "is no RFC 3339 time such as 2026-01-31T09:00:00Z") from None
    if instant.tzinfo is None:
        raise FieldError("no_offset", "has no UTC offset; add Z or +hh:mm")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise FieldError("out_of_range", "lies outside the years 1 to 9999") from None


def check_count(value: Any) -> int:
    """Return a non-negative 31-bit integer; null is zero."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(value, "an integer")
    if not 0 <= value < 1 << 31:
        raise FieldError("out_of_range", "must be between 0 and 2,147,483,647")
    return value


def check_state(value: Any) -> str:
    """Return a state that an import may carry: active, superseded, archived or merged."""
    if value is None:
        return "active"
    if value not in ("active", "superseded", "archived", "merged"):
        raise FieldError("unknown_state", "must be active, superseded, archived or merged")
    return str(value)


def check_uuid(value: Any) -> UUID | None:
    """Return the id of a memory; null is none."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(value, "a uuid")
    try:
        return UUID(value)
    except ValueError:
        raise FieldError("not_an_id", "is no memory id") from None


_TIME = {"type": ["string", "null"], "format": "date-time"}


def _label(name: str, max_length: int, *, patchable: bool = False) -> Field:
    schema = {"type": ["string", "null"], "minLength": 1, "maxLength": max_length}
    return Field(name, label(max_length), schema, patchable=patchable)


FIELDS: tuple[Field, ...] = (
    Field(
        "content",
        check_content,
        {"type": "string", "minLength": 1, "maxLength": MAX_CONTENT},
    ),
    _label("namespace", MAX_NAMESPACE),
    _label("user_id", MAX_OWNER_ID),
    _label("agent_id", MAX_OWNER_ID),
    _label("session_id", MAX_OWNER_ID),
    _label("app_id", MAX_OWNER_ID),
    Field("metadata", check_metadata, {"type": ["object", "null"]}),
    Field(
        "categories",
        check_categories,
        {"type": ["array", "null"], "items": {"type": "string"}, "maxItems": MAX_CATEGORIES},
    ),
    Field(
        "importance",
        check_importance,
        {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1, "default": 0.5},
    ),
    Field("pinned", check_pinned, {"type": ["boolean", "null"], "default": False}),
    Field("expires_at", check_time, _TIME),
    Field("valid_until", check_time, _TIME),
    _label("source", 64),
    _label("external_id", 512),
    Field("created_at", check_time, _TIME, patchable=False),
    Field("updated_at", check_time, _TIME, writable=False, patchable=False),
    Field("last_accessed_at", check_time, _TIME, writable=False, patchable=False),
    Field("access_count", check_count, {"type": "integer"}, writable=False, patchable=False),
    Field("reinforced_at", check_time, _TIME, writable=False, patchable=False),
    Field("state", check_state, {"type": "string"}, writable=False, patchable=False),
)
# What a record of engram is known by. Only an import reads them, and only from such a record:
# an `id` in a foreign row is that system's own name, and becomes the external id.
_UUID = {"type": ["string", "null"], "format": "uuid"}
IDENTITY: tuple[Field, ...] = (
    Field("id", check_uuid, _UUID, writable=False, patchable=False),
    Field("merged_into", check_uuid, _UUID, writable=False, patchable=False),
)
