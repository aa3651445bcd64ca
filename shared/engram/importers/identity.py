"""The external id of an element that has none: the same for the same file, wherever it lies."""

import hashlib
from typing import Any

_KEY_BYTES = 8
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

    Holds eight bytes for each distinct item without an id, and nothing else for it: 10 MB for a
    million. One that comes again costs about 100 bytes more. Items with an id cost nothing.
    """

    def __init__(self, format_name: str) -> None:
        self._format = format_name
        # Digests side by side, split by their first bits: a set would take ten times as much.
        self._seen: dict[str, bytearray] = {}
        self._again: dict[bytes, int] = {}

    def id_for(self, item: dict[str, Any]) -> str:
        """Return the fallback id of the next item."""
        first = fallback_id(self._format, item, 0)
        if self._is_new(first):
            return first
        key = bytes.fromhex(first)
        nth = self._again.get(key, 0) + 1
        self._again[key] = nth
        return fallback_id(self._format, item, nth)

    def _is_new(self, digest: str) -> bool:
        # 4,096 parts by the first three digits; the eight bytes that follow are held.
        part = self._seen.setdefault(digest[:3], bytearray())
        key = bytes.fromhex(digest[3 : 3 + 2 * _KEY_BYTES])
        at = part.find(key)
        while at >= 0 and at % _KEY_BYTES:
            at = part.find(key, at + 1)
        if at < 0:
            part += key
        return at < 0
