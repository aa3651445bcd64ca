"""The external id of an element that has none: the same for the same file, wherever it lies."""

import hashlib
from typing import Any

_OWNERS = ("user_id", "agent_id", "session_id", "app_id", "namespace")


def fallback_id(format_name: str, item: dict[str, Any], nth: int) -> str:
    """Return SHA-256 hex over (format, owner ids and namespace, content, nth repeat).

    Never the position: two files without ids must not collide, and a row moved within its file
    must stay itself.

    Args:
        format_name: name of the format that read the item.
        item: the native item.
        nth: how often the same item came before in this file, from 0.
    """
    parts = (format_name, *map(item.get, _OWNERS), item.get("content"), nth)
    # Each part with its length in front, so that no two lists of parts give the same text.
    text = "".join(["-" if part is None else f"{len(str(part))}:{part}" for part in parts])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Repeats:
    """Gives items without an id theirs, counting equal ones within a file.

    Holds eight bytes of digest for each distinct item without an id, about 100 bytes of memory
    each: 100 MB for a million. Items with an id of their own cost nothing.
    """

    def __init__(self, format_name: str) -> None:
        self._format = format_name
        self._seen: dict[bytes, int] = {}

    def id_for(self, item: dict[str, Any]) -> str:
        """Return the fallback id of the next item."""
        first = fallback_id(self._format, item, 0)
        key = bytes.fromhex(first[:16])
        nth = self._seen.get(key, 0)
        self._seen[key] = nth + 1
        return fallback_id(self._format, item, nth) if nth else first
