"""What stands at the top of a JSON object before its first list, such as whose export it is."""

import contextlib
from typing import Any

from engram.errors import MalformedError
from engram.importers.cursor import Cursor
from engram.importers.decode import decode
from engram.importers.source import Source

_MAX_BYTES = 64 * 1024


def preamble(source: Source) -> dict[str, Any]:
    """Return the first members of a JSON object up to its first array, within 64 KiB.

    Empty for anything else; what is damaged or too long is left out.
    """
    found: dict[str, Any] = {}
    cursor = Cursor(source.chunks(), _MAX_BYTES)
    with contextlib.suppress(MalformedError):
        if cursor.peek() != b"{":
            return found
        for raw in cursor.members():
            if cursor.peek() == b"[" or cursor.consumed_bytes > _MAX_BYTES:
                break
            key, _ = decode(raw, _MAX_BYTES)
            value, fault = decode(cursor.value(), _MAX_BYTES)
            if fault is None and isinstance(key, str):
                found[key] = value
    return found
