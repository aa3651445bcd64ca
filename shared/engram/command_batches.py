"""Cuts items into the data of ingest commands that fit a NATS message. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engram.errors import Fault, InvalidError, TooLargeError
from engram.events import encode_json

Item = Mapping[str, Any]

MAX_COMMAND_ITEMS: Final = 256


def split(items: Sequence[Item], max_bytes: int, format_name: str | None = None) -> list[bytes]:
    """Return JSON command data of at most 256 items and ``max_bytes`` each, in order.

    Args:
        items: native items, or rows of a format of imports.
        max_bytes: of the data of one command.
        format_name: the format of the rows, for commands that put.

    Raises:
        InvalidError: an item is no JSON object.
        TooLargeError: an item alone passes ``max_bytes``.
    """
    named = b"" if format_name is None else b'"format":' + encode_json(format_name) + b","
    frame = (b"{" + named + b'"memories":[', b"]}")
    room_bytes = max_bytes - len(frame[0]) - len(frame[1])
    return [frame[0] + b",".join(group) + frame[1] for group in _groups(items, room_bytes)]


def _groups(items: Sequence[Item], room_bytes: int) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size_bytes = 0
    for index, item in enumerate(items):
        encoded = _encoded(item, index, room_bytes)
        if group and (len(group) == MAX_COMMAND_ITEMS or size_bytes + len(encoded) > room_bytes):
            yield group
            group, size_bytes = [], 0
        group.append(encoded)
        size_bytes += len(encoded) + 1  # its comma
    if group:
        yield group


def _encoded(item: object, index: int, room_bytes: int) -> bytes:
    if not isinstance(item, Mapping):
        fault = Fault(f"/{index}", "not_an_object", "an item is a mapping")
        raise InvalidError("not_an_object", f"Item {index} is no mapping.", faults=(fault,))
    encoded = encode_json(dict(item))
    if len(encoded) > room_bytes:
        fault = Fault(f"/{index}", "too_large", f"an item has at most {room_bytes} bytes")
        raise TooLargeError(
            "item_too_large", f"Item {index} fits no NATS message.", faults=(fault,)
        )
    return encoded
