"""The text of one element becomes a value or a fault, never an exception."""

from typing import Any

from engram import strictjson
from engram.errors import EngramError, Fault
from engram.importers.copytext import may_be_copied, undo_copy

TOO_LONG = Fault("", "too_large", "The element is longer than an import reads.")


def decode(raw: bytes | None, max_bytes: int) -> tuple[Any, Fault | None]:
    """Read the JSON text of one element; None stands for one above the limit.

    Returns:
        (value, None), or (None, why it cannot be read).
    """
    if raw is None:
        return None, TOO_LONG
    try:
        return strictjson.loads(raw, max_bytes=max_bytes, what="element"), None
    except EngramError as error:
        return None, Fault("", error.code, error.detail)


def decode_line(raw: bytes | None, max_bytes: int, *, copied: bool) -> tuple[Any, Fault | None]:
    """Read one line as JSON; the other reading of its backslashes is tried when one fails."""
    if raw is None or b"\\" not in raw or not may_be_copied(raw):
        return decode(raw, max_bytes)
    readings = (undo_copy(raw), raw) if copied else (raw, undo_copy(raw))
    value, fault = decode(readings[0], max_bytes)
    if fault is None:
        return value, None
    other, other_fault = decode(readings[1], max_bytes)
    return (other, None) if other_fault is None else (value, fault)
