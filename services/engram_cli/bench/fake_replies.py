"""What the fake provider answers: right replies, and every wrong one, as bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import shake_128
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Items = list[dict[str, Any]]
Ending = Literal["whole", "cut", "trickle", "hang", "reset"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply; ``ending`` says how the connection treats it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Ending = "whole"


def vector(text: str, dimensions: int) -> Vector:
    """The right vector of a text: length ``dimensions``, norm 1, the same in every process."""
    stream = shake_128(text.encode("utf-8", "surrogatepass")).digest(dimensions)
    numbers = (np.frombuffer(stream, dtype=np.int8) | np.int8(1)).astype(np.float32)
    unit: Vector = numbers / np.linalg.norm(numbers)
    return unit


def as_json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """A whole JSON reply."""
    kept = {"content-type": "application/json", **(headers or {})}
    return Reply(status, json.dumps(content).encode(), kept)


def error(
    status: int, words: str | None, retry_after: str | None = None, location: str | None = None
) -> Reply:
    """An error as Voyage (``detail``) and OpenAI (``error``) write it; no words, neither."""
    body: dict[str, Any] = {}
    if words is not None:
        body = {"detail": words, "error": {"message": words, "type": "fake", "code": None}}
    headers = {"retry-after": retry_after, "location": location}
    return as_json(status, body, {name: value for name, value in headers.items() if value})


def right(request: Mapping[str, Any], dimensions: int) -> Reply:
    """The right reply to a request in either wire format."""
    return _wrap(request, _items(request, dimensions))


def wrong(kind: str, request: Mapping[str, Any], dimensions: int) -> Reply:
    """A reply that is wrong in the way ``kind`` names."""
    if kind in _WHOLE:
        return _WHOLE[kind]()
    if kind in _ENDINGS:
        body = right(request, dimensions).body
        return Reply(200, body[: len(body) // 2], ending=_ENDINGS[kind])
    if kind == "wrong_dimension":
        return _wrap(request, _items({**request, **_asked(dimensions + 1)}, dimensions + 1))
    return _wrap(request, _SPOIL[kind](_items(request, dimensions)))


def _asked(dimensions: int) -> dict[str, int]:
    return {"output_dimension": dimensions, "dimensions": dimensions}


def _items(request: Mapping[str, Any], dimensions: int) -> Items:
    size = request.get("output_dimension") or request.get("dimensions") or dimensions
    encode = _base64 if request.get("encoding_format") == "base64" else _numbers
    return [
        {"object": "embedding", "index": index, "embedding": encode(vector(text, size))}
        for index, text in enumerate(request["input"])
    ]


def tokens_of(request: Mapping[str, Any]) -> int:
    """Tokens the fake counts: one for four characters."""
    return sum(max(1, len(text) // 4) for text in request["input"])


def _wrap(request: Mapping[str, Any], items: Items) -> Reply:
    tokens = tokens_of(request)
    usage = {"total_tokens": tokens, "prompt_tokens": tokens}
    model = request.get("model")
    return as_json(200, {"object": "list", "data": items, "model": model, "usage": usage})


def _base64(values: Vector) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _numbers(values: Vector) -> list[float]:
    return [float(value) for value in values]


def _decoded(embedding: Any) -> Vector:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4").astype(np.float32)
    return np.asarray(embedding, dtype=np.float32)


def _set_first(value: float) -> Callable[[Items], Items]:
    """Put a number into the first vector, in whatever encoding it is."""

    def spoil(items: Items) -> Items:
        values = _decoded(items[0]["embedding"])
        values[0] = value
        encode = _base64 if isinstance(items[0]["embedding"], str) else _numbers
        items[0]["embedding"] = encode(values)
        return items

    return spoil


def _fill(value: float, rows: slice) -> Callable[[Items], Items]:
    """Overwrite whole vectors with one number."""

    def spoil(items: Items) -> Items:
        for item in items[rows]:
            values = np.full_like(_decoded(item["embedding"]), value)
            encode = _base64 if isinstance(item["embedding"], str) else _numbers
            item["embedding"] = encode(values)
        return items

    return spoil


def _indexes(change: Callable[[int], Any]) -> Callable[[Items], Items]:
    return lambda items: [{**item, "index": change(item["index"])} for item in items]


def _without_index(items: Items) -> Items:
    return [{key: value for key, value in item.items() if key != "index"} for item in items]


def _text_row(items: Items) -> Items:
    items[0]["embedding"] = [str(value) for value in _decoded(items[0]["embedding"])]
    return items


_WHOLE: Final[dict[str, Callable[[], Reply]]] = {
    "hang": lambda: Reply(0, ending="hang"),
    "reset": lambda: Reply(0, ending="reset"),
    "html": lambda: Reply(200, b"<html>Sign in to this network</html>"),
    "huge": lambda: Reply(200, b" " * (8 << 20)),
    "not_json": lambda: Reply(200, b"[" * 100_000),
    "no_data": lambda: as_json(200, {"object": "list", "usage": {"total_tokens": 1}}),
}

# Half a right reply: as a whole message, before the connection dies, or byte by byte.
_ENDINGS: Final[dict[str, Ending]] = {"truncated": "whole", "cut": "cut", "trickle": "trickle"}

_SPOIL: Final[dict[str, Callable[[Items], Items]]] = {
    "short_batch": lambda items: items[:-1],
    "long_batch": lambda items: [*items, {**items[-1], "index": len(items)}],
    "shuffled": lambda items: items[::-1],
    "duplicate_index": _indexes(lambda _: 0),
    "string_index": _indexes(str),
    "missing_index": _without_index,
    "nan": _set_first(float("nan")),
    "zero": _fill(0.0, slice(0, 1)),
    "overflow": _set_first(1e6),
    "text_row": _text_row,
    "all_nan": _fill(float("nan"), slice(None)),
}
