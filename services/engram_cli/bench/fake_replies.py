"""What the fake provider answers: right replies, and every wrong one, as bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import shake_128
from typing import Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from engram_cli.bench.fake_faults import Fault

Vector = NDArray[np.float32]
Item = dict[str, Any]
Items = list[Item]
Ending = Literal["whole", "cut", "drip", "hang", "reset"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply; ``ending`` says how the connection treats it, ``over_s`` for how long."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Ending = "whole"
    over_s: float = 0.0


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
    """The right reply to a request in either wire format.

    Written eighty times as fast as `json` would: one large batch must not keep a query waiting that
    comes at the same time. `orjson` cannot write the NaN of a fault.
    """
    content = _content(request, _items(request, dimensions))
    return Reply(200, orjson.dumps(content), {"content-type": "application/json"})


def faulty(fault: Fault, request: Mapping[str, Any], dimensions: int) -> Reply:
    """The reply that a fault makes of the right one."""
    if fault.kind == "status":
        words = f"Trouble with {request['input']}" if fault.detail else None
        return error(fault.status, words, fault.retry_after, fault.location)
    if fault.kind == "drip":
        return replace(right(request, dimensions), ending="drip", over_s=fault.over_s)
    if fault.kind in _SPOIL_ROW:
        return _wrap(request, _spoilt_rows(fault, request, dimensions))
    return _wrong(fault.kind, request, dimensions)


def _spoilt_rows(fault: Fault, request: Mapping[str, Any], dimensions: int) -> Items:
    """The right vectors, but for those of the texts the fault is meant for: else the first."""
    items = _items(request, dimensions)
    for row, text in enumerate(request["input"]):
        if (row == 0) if fault.only is None else (fault.only in text):
            _SPOIL_ROW[fault.kind](items[row])
    return items


def _wrong(kind: str, request: Mapping[str, Any], dimensions: int) -> Reply:
    if kind in _WHOLE:
        return _WHOLE[kind]()
    if kind in _HALVES:
        body = right(request, dimensions).body
        return Reply(200, body[: len(body) // 2], ending=_HALVES[kind])
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
    return as_json(200, _content(request, items))


def _content(request: Mapping[str, Any], items: Items) -> dict[str, Any]:
    tokens = tokens_of(request)
    usage = {"total_tokens": tokens, "prompt_tokens": tokens}
    return {"object": "list", "data": items, "model": request.get("model"), "usage": usage}


def _base64(values: Vector) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _numbers(values: Vector) -> list[float]:
    numbers: list[float] = values.tolist()
    return numbers


def _decoded(embedding: Any) -> Vector:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4").astype(np.float32)
    return np.asarray(embedding, dtype=np.float32)


def _set_first(value: float) -> Callable[[Item], None]:
    """Put a number into a vector, in whatever encoding it is."""

    def spoil(item: Item) -> None:
        values = _decoded(item["embedding"])
        values[0] = value
        item["embedding"] = _encoder(item)(values)

    return spoil


def _fill(value: float) -> Callable[[Item], None]:
    """Overwrite a whole vector with one number."""

    def spoil(item: Item) -> None:
        values = np.full_like(_decoded(item["embedding"]), value)
        item["embedding"] = _encoder(item)(values)

    return spoil


def _encoder(item: Item) -> Callable[[Vector], Any]:
    return _base64 if isinstance(item["embedding"], str) else _numbers


def _each(spoil: Callable[[Item], None]) -> Callable[[Items], Items]:
    def spoil_all(items: Items) -> Items:
        for item in items:
            spoil(item)
        return items

    return spoil_all


def _indexes(change: Callable[[int], Any]) -> Callable[[Items], Items]:
    return lambda items: [{**item, "index": change(item["index"])} for item in items]


def _without_index(items: Items) -> Items:
    return [{key: value for key, value in item.items() if key != "index"} for item in items]


def _as_text(item: Item) -> None:
    item["embedding"] = [str(value) for value in _decoded(item["embedding"])]


_WHOLE: Final[dict[str, Callable[[], Reply]]] = {
    "hang": lambda: Reply(0, ending="hang"),
    "reset": lambda: Reply(0, ending="reset"),
    "html": lambda: Reply(200, b"<html>Sign in to this network</html>"),
    "huge": lambda: Reply(200, b" " * (8 << 20)),
    "not_json": lambda: Reply(200, b"[" * 100_000),
    "no_data": lambda: as_json(200, {"object": "list", "usage": {"total_tokens": 1}}),
}

# Half a right reply: as a whole message, or before the connection dies.
_HALVES: Final[dict[str, Ending]] = {"truncated": "whole", "cut": "cut"}

_SPOIL: Final[dict[str, Callable[[Items], Items]]] = {
    "short_batch": lambda items: items[:-1],
    "long_batch": lambda items: [*items, {**items[-1], "index": len(items)}],
    "shuffled": lambda items: items[::-1],
    "duplicate_index": _indexes(lambda _: 0),
    "string_index": _indexes(str),
    "missing_index": _without_index,
    "all_nan": _each(_fill(float("nan"))),
}

_SPOIL_ROW: Final[dict[str, Callable[[Item], None]]] = {
    "nan": _set_first(float("nan")),
    "zero": _fill(0.0),
    "overflow": _set_first(1e6),
    "text_row": _as_text,
}
