"""Cursors of lists: opaque to clients, the last key of the page inside."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from engram.errors import MalformedError

Key = TypeVar("Key")


def decode_cursor(cursor: str | None, read: Callable[[str], Key], start: Key) -> Key:
    """Return the key after which a page starts.

    Raises:
        MalformedError: the cursor did not come from us.
    """
    if cursor is None:
        return start
    try:
        return read(_storable(base64.urlsafe_b64decode(cursor.encode()).decode()))
    except (ValueError, binascii.Error):
        raise MalformedError(
            "bad_cursor",
            "The cursor cannot be read.",
            cure="Send next_cursor back as it was, or leave it out to start again.",
        ) from None


def _storable(text: str) -> str:
    # Postgres takes no U+0000, so no key of a page holds one.
    if "\0" in text:
        raise ValueError(text)
    return text


def page_of(items: list[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    """Return the public page of items that were fetched with one more than ``limit``."""
    more = len(items) > limit
    shown = items[:limit]
    cursor = base64.urlsafe_b64encode(str(shown[-1][key]).encode()).decode() if more else None
    return {"items": shown, "next_cursor": cursor}
