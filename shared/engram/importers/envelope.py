"""Pages inside a stream: an element that is itself a wrapper stands for what it wraps."""

from collections.abc import Iterator
from typing import Any

from engram.importers.shape import is_whole

_WRAPPERS = ("results", "memories", "records", "items")
_ROW_KEYS = frozenset(
    ("memory", "content", "text", "data", "fact", "value", "payload", "id", "uuid")
)


def unwrapped(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, element) for each element of a page, or the value itself if it is none."""
    wrapper = wrapper_of(value)
    if wrapper is None:
        yield (), value
        return
    for inner in value[wrapper]:
        yield (wrapper,), inner


def wrapper_of(value: Any) -> str | None:
    """Return the key under which a page holds its elements, None for anything else."""
    if not isinstance(value, dict) or not _ROW_KEYS.isdisjoint(value):
        return None
    if is_whole(value):
        return None
    return next((key for key in _WRAPPERS if isinstance(value.get(key), list)), None)
