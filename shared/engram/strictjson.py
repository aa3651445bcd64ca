"""The one strict JSON reader behind every door: HTTP bodies, NATS commands, import items."""

import json
from typing import Any

import orjson

from engram.errors import MalformedError, TooLargeError

MAX_BODY_BYTES = 8 * 1024 * 1024
_NUL_ESCAPE = b"\\u0000"
# orjson turns an integer beyond 64 bits into the nearest double: a silent change of a fact.
_LONG_NUMBER = b"0" * 19
# Every digit a zero, all else a blank: finding plain bytes is ten times as fast as a pattern.
_DIGITS = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))


def loads(data: bytes, *, max_bytes: int = MAX_BODY_BYTES, what: str = "body") -> Any:
    """Read JSON text, refusing what a store could not keep as it was sent.

    orjson itself refuses NaN, infinities, numbers beyond a double, non-UTF-8 bytes, lone
    surrogates, raw control characters and nesting deeper than 1,024; this adds the size limit and
    NUL, which neither ``text`` nor ``jsonb`` can hold.

    Args:
        data: the whole JSON text.
        max_bytes: the largest text read.
        what: how error messages call the text.

    Returns:
        The value, made of dict, list, str, int, float, bool and None.

    Raises:
        TooLargeError: more than ``max_bytes``.
        MalformedError: not JSON, or JSON that cannot be stored.
    """
    if len(data) > max_bytes:
        raise TooLargeError(
            "too_large",
            f"The {what} has {len(data):,} bytes; at most {max_bytes:,} are read.",
            cure="Send fewer memories at once, or import them as a file.",
        )
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedError(
            "malformed_json",
            f"The {what} is not valid JSON: {_reason(error)}.",
            cure="Send UTF-8 JSON without NaN, lone surrogates or over-deep nesting.",
        ) from None
    if _LONG_NUMBER in data.translate(_DIGITS):
        _refuse_long_integers(data, what)
    if _NUL_ESCAPE in data and _holds_nul(value):
        raise MalformedError(
            "nul_character",
            f"The {what} holds the character U+0000, which cannot be stored.",
            cure="Remove NUL characters from the text.",
        )
    return value


def _reason(error: orjson.JSONDecodeError) -> str:
    # orjson's message never quotes the document, so it may be shown.
    return f"{error.msg} at line {error.lineno} column {error.colno}"


def _refuse_long_integers(data: bytes, what: str) -> None:
    def check(digits: str) -> int:
        # Compared as text: turning a million digits into an integer is itself an attack.
        if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
            raise MalformedError(
                "number_too_large",
                f"The {what} holds an integer beyond 64 bits.",
                cure="Send long numbers as strings.",
            )
        return 0

    try:
        json.loads(data, parse_int=check)
    except RecursionError:
        # orjson reads deeper than json; long integers down there are not looked for.
        raise MalformedError(
            "too_deep",
            f"The {what} nests too deeply.",
            cure="Flatten it; 1,000 levels are too many.",
        ) from None


def _holds_nul(value: Any) -> bool:
    # A stack instead of recursion: depth is the sender's to choose, up to 1,024.
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            if "\0" in node:
                return True
        elif isinstance(node, dict):
            stack.extend(node.keys())
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return False
