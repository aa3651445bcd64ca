"""What importer tests share: a value or bytes in, the items and warnings out."""

import io
import json
from collections.abc import Mapping
from typing import Any

from engram.importers.reading import Import, read
from engram.importers.record import Found

Item = dict[str, Any]


def opened(
    value: Any,
    filename: str | None = None,
    format: str | None = None,  # noqa: A002 - the word the reader uses
    *,
    placed: bool = False,
) -> Import:
    """Open a value, written as one JSON document, or bytes as they are."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read(io.BytesIO(data), filename=filename, format=format, placed=placed)


def lines(*values: Any) -> bytes:
    """Return JSON Lines."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def items(value: Any, **options: Any) -> list[Item]:
    """Return the items, all of which must be readable."""
    found = list(opened(value, **options))
    assert all(f.fault is None for f in found), found
    return [f.item or {} for f in found]


def texts(value: Any, **options: Any) -> list[str]:
    """Return each element's text, or the code of its fault."""
    return [said(found) for found in opened(value, **options)]


def said(found: Found) -> str:
    """Return an element's text, or the code of its fault."""
    return found.fault.code if found.fault else str((found.item or {})["content"])


def without_made_id(item: Mapping[str, Any]) -> Item:
    """Return an item without the id that was computed from it."""
    return {k: v for k, v in item.items() if k != "external_id"}


def warnings_of(value: Any, **options: Any) -> list[str]:
    """Return the warnings of a file that was read to its end."""
    reading = opened(value, **options)
    list(reading)
    return reading.warnings
