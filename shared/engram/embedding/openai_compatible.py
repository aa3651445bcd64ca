"""Servers that speak OpenAI's ``POST /v1/embeddings``: OpenAI, Ollama, vLLM, TEI, llama.cpp."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

import httpx
import orjson

from engram.domain.spaces import SpaceSpec
from engram.embedding import wire
from engram.embedding.provider import Embedded, Kind, Limits, ProviderError, nothing

_DEFAULT_URL: Final = "https://api.openai.com/v1"
# Source: platform.openai.com/docs/api-reference/embeddings.
_OPENAI_LIMITS: Final = Limits(max_inputs=2048, max_tokens=300_000, max_tokens_per_text=8192)
# A model on somebody's own machine: TEI refuses more than 32 inputs unless told otherwise, and a
# processor needs its time.
_OTHER_LIMITS: Final = Limits(max_inputs=32, max_tokens=16_384)
_MAX_ERROR_BYTES: Final = 1 << 16
# httpx keeps 20 connections open; above that each call would pay for a new one.
_CONNECTIONS: Final = httpx.Limits(max_connections=64, max_keepalive_connections=64)
_CODE = re.compile(r"[a-z][a-z0-9_]{2,39}")


class OpenAICompatibleProvider:
    """A space of a server that speaks OpenAI's embeddings protocol."""

    def __init__(
        self, spec: SpaceSpec, *, api_key: str | None, base_url: str | None, timeout_s: float
    ) -> None:
        self.spec = spec
        own = spec.model.startswith("text-embedding-")
        self.limits = _OPENAI_LIMITS if own else _OTHER_LIMITS
        self._url = f"{wire.base_url(base_url, _DEFAULT_URL)}/embeddings"
        # Asking for plain bytes keeps a compressed bomb from growing behind the size limit.
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None
        self._closed = False

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Embed texts in exactly one request; the protocol has no word for queries."""
        del kind
        if not texts:
            return nothing(self.spec)
        status, headers, body = await self._exchange(self._request(texts), len(texts))
        if status != 200:
            raise wire.refused(status, headers, _code(body))
        if body is None:
            raise ProviderError("contract", "The reply is larger than it can be.", status=200)
        return wire.read_reply(body, self.spec, len(texts))

    async def close(self) -> None:
        """Close the HTTP client."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _request(self, texts: Sequence[str]) -> bytes:
        body: dict[str, Any] = {
            "model": self.spec.model,
            "input": list(texts),
            "encoding_format": "float",
        }
        if self.spec.model.startswith("text-embedding-3"):
            body["dimensions"] = self.spec.dimensions  # other models refuse the parameter
        try:
            return orjson.dumps(body)
        except TypeError:
            raise ProviderError("rejected", "A text is not valid Unicode.") from None

    async def _exchange(
        self, request: bytes, count: int
    ) -> tuple[int, httpx.Headers, bytes | None]:
        """Send one request; the body is None when there was more of it than is read."""
        try:
            # httpx's timeouts are per read, and a server may trickle: the whole call is bounded.
            async with asyncio.timeout(self._timeout_s):
                return await self._send(request, count)
        except (TimeoutError, httpx.TimeoutException):
            raise ProviderError("timeout", f"No reply within {self._timeout_s:g} s.") from None
        except httpx.DecodingError:
            raise ProviderError("contract", "The reply cannot be decoded.") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            detail = f"The call failed: {type(error).__name__}."
            raise ProviderError("connection", detail) from None

    async def _send(self, request: bytes, count: int) -> tuple[int, httpx.Headers, bytes | None]:
        if self._closed:
            raise ProviderError("connection", "The provider has been closed.")
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout_s, limits=_CONNECTIONS)
        post = self._client.stream("POST", self._url, content=request, headers=self._headers)
        async with post as response:
            limit = wire.max_reply_bytes(count, self.spec.dimensions)
            if response.status_code != 200:
                limit = _MAX_ERROR_BYTES
            return response.status_code, response.headers, await _read(response, limit)


async def _read(response: httpx.Response, max_bytes: int) -> bytes | None:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


def _code(body: bytes | None) -> str | None:
    """OpenAI's machine-readable reason; its message is left, for it may quote the text."""
    try:
        error = orjson.loads(body or b"")["error"]
        code = error["code"] or error["type"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None
