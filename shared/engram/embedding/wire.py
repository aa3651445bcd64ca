"""What the HTTP providers share: the reply's shape, its limits, its headers and its URL."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import orjson
from numpy.typing import NDArray

from engram.domain.retry import classify_status
from engram.domain.spaces import SpaceSpec
from engram.embedding.provider import Embedded, ProviderError, accept
from engram.errors import UsageError

# A float written out takes up to 24 characters with its comma; base64 needs 5.4.
_BYTES_PER_NUMBER: Final = 32
_ENVELOPE_BYTES: Final = 1 << 20
_VERSION = re.compile(r"v[0-9]")


def max_reply_bytes(count: int, dimensions: int) -> int:
    """Longest believable reply to ``count`` texts, in bytes; more is not read."""
    return _ENVELOPE_BYTES + count * dimensions * _BYTES_PER_NUMBER


def base_url(given: str | None, default: str) -> str:
    """The URL that ``/embeddings`` is appended to; ``/v1`` is added where no version is in it.

    Raises:
        UsageError: not an http or https URL.
    """
    url = (given or default).strip().rstrip("/")
    if not _is_base_url(url):
        raise UsageError(
            "bad_base_url",
            "The provider's base URL is not an http or https URL.",
            cure="Write it like http://localhost:11434/v1.",
        )
    versioned = any(_VERSION.match(segment) for segment in urlsplit(url).path.split("/"))
    return url if versioned else f"{url}/v1"


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3), None when it is not readable.

    Args:
        headers: case-insensitive headers of a reply.
        now: the time of the reply, for the form that names a date.
    """
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        return _seconds_until(text, now)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def refused(status: int, headers: Mapping[str, str], code: str | None = None) -> ProviderError:
    """The error for a reply whose status is not 200.

    Args:
        status: its HTTP status.
        headers: its case-insensitive headers.
        code: the provider's machine-readable reason, if it is known to be one.
    """
    reason = f" ({code})" if code else ""
    return ProviderError(
        classify_status(status),
        f"The provider answered {status}{reason}.",
        status=status,
        retry_after_s=retry_after_s(headers, datetime.now(UTC)),
    )


def read_reply(body: bytes, spec: SpaceSpec, count: int) -> Embedded:
    """Turn the body of a 200 into vectors, each at the place its ``index`` names.

    Args:
        body: JSON ``{"data": [{"index", "embedding"}], "usage": {"total_tokens"}}``; an embedding
            is a list of numbers or base64 of little-endian float32.
        spec: the space the vectors must fit.
        count: number of texts asked for.

    Raises:
        ProviderError: class ``contract``; no vector of such a reply is used.
    """
    reply = _parse(body)
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list):
        raise _broken("it has no list of embeddings")
    if len(data) != count:
        raise _broken(f"expected {count} vectors, got {len(data)}")
    matrix = np.full((count, spec.dimensions), np.nan, dtype=np.float64)
    for index, embedding in _by_index(data, count).items():
        matrix[index] = _row(embedding, spec.dimensions)
    return accept(matrix, spec, count, _total_tokens(reply))


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_a_number = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain and port_is_a_number


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # The slow parser admits NaN, which then spoils only its own row.
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _broken("it is not JSON") from None


def _by_index(data: list[Any], count: int) -> dict[int, Any]:
    rows: dict[int, Any] = {}
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        # bool is an int in Python, and a string "0" says nothing about what its sender meant.
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
            raise _broken("an index is missing or out of range")
        if index in rows:
            raise _broken("an index is repeated")
        rows[index] = item.get("embedding")
    return rows


def _row(embedding: Any, dimensions: int) -> NDArray[Any]:
    row = _from_base64(embedding) if isinstance(embedding, str) else _from_list(embedding)
    if row.shape != (dimensions,):
        raise _broken(f"expected {dimensions} dimensions, got {row.size}", row.size)
    return row


def _from_base64(text: str) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, ValueError):
        raise _broken("an embedding is not base64 of float32") from None


def _from_list(embedding: Any) -> NDArray[Any]:
    if not isinstance(embedding, list):
        raise _broken("an embedding is missing")
    try:
        row = np.asarray(embedding)
    except (ValueError, OverflowError):
        raise _broken("an embedding is not a flat list") from None
    # null, text or huge integers among the numbers spoil this row, not its neighbours.
    return row if row.dtype.kind in "iuf" else np.full(row.shape, np.nan)


def _total_tokens(reply: dict[str, Any]) -> int | None:
    usage = reply.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _broken(why: str, dimensions: int | None = None) -> ProviderError:
    detail = f"The reply breaks its contract: {why}."
    return ProviderError("contract", detail, status=200, dimensions=dimensions)
