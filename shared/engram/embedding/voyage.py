"""Voyage AI through its own client, one request a call, the raw reply checked by us.

The client (0.5.0) checks neither index nor count, drops Retry-After, and raises AttributeError for
501 and 529. So it is given a session of ours that keeps what really came back, and that decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engram.domain.spaces import SpaceSpec
from engram.embedding import wire
from engram.embedding.provider import Embedded, Kind, Limits, ProviderError, nothing

if TYPE_CHECKING:
    import aiohttp
    from voyageai.client_async import AsyncClient

_DEFAULT_URL: Final = "https://api.voyageai.com/v1"
_MAX_INPUTS: Final = 1000
_MAX_TOKENS_PER_TEXT: Final = 32_000
# Tokens per request; source: docs.voyageai.com/docs/embeddings. Others: the smallest of them.
_MAX_TOKENS: Final = {
    "voyage-4-lite": 1_000_000,
    "voyage-3.5-lite": 1_000_000,
    "voyage-4": 320_000,
    "voyage-3.5": 320_000,
}
_LEAST_TOKENS: Final = 120_000
_CHUNK_BYTES: Final = 1 << 16


class VoyageProvider:
    """A space of Voyage AI, or of a server that speaks its protocol.

    Over-long texts are refused by the server (``truncation=False``), never cut silently.
    """

    def __init__(
        self, spec: SpaceSpec, *, api_key: str, base_url: str | None, timeout_s: float
    ) -> None:
        self.spec = spec
        self.limits = Limits(
            _MAX_INPUTS, _MAX_TOKENS.get(spec.model, _LEAST_TOKENS), _MAX_TOKENS_PER_TEXT
        )
        self._api_key = api_key
        self._base_url = wire.base_url(base_url, _DEFAULT_URL)
        self._timeout_s = timeout_s
        self._opening = asyncio.Lock()
        self._client: AsyncClient | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Embed texts in exactly one request."""
        if not texts:
            return nothing(self.spec)
        client, session = await self._open()
        exchange = _Exchange(session, wire.max_reply_bytes(len(texts), self.spec.dimensions))
        trouble = await self._call(client, exchange, list(texts), kind)
        if exchange.status is None:
            raise trouble or ProviderError("connection", "No reply came.")
        if exchange.status != 200:
            raise wire.refused(exchange.status, exchange.headers)
        if exchange.body is None:
            raise ProviderError("contract", "The reply is larger than it can be.", status=200)
        return wire.read_reply(exchange.body, self.spec, len(texts))

    async def close(self) -> None:
        """Close the HTTP session."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> tuple[AsyncClient, aiohttp.ClientSession]:
        async with self._opening:
            if self._closed:
                raise ProviderError("connection", "The provider has been closed.")
            if self._client is None or self._session is None:
                # The import takes over a second: not on the loop that answers requests.
                await asyncio.to_thread(_import_client)
                self._client, self._session = self._make()
            return self._client, self._session

    def _make(self) -> tuple[AsyncClient, aiohttp.ClientSession]:
        import aiohttp
        from voyageai.client_async import AsyncClient

        # Asking for plain bytes keeps a compressed bomb from growing behind the size limit.
        session = aiohttp.ClientSession(
            headers={"Accept-Encoding": "identity"}, cookie_jar=aiohttp.DummyCookieJar()
        )
        # 1 means one call; the client's own retries know no Retry-After.
        client = AsyncClient(
            api_key=self._api_key, max_retries=1, timeout=self._timeout_s, base_url=self._base_url
        )
        return client, session

    async def _call(
        self, client: AsyncClient, exchange: _Exchange, texts: list[str], kind: Kind
    ) -> ProviderError | None:
        """Make the request; what came back is in the exchange, what went wrong is returned."""
        import voyageai

        # The client opens a new session for every call unless this context variable holds one.
        token = voyageai.aiosession.set(exchange)  # type: ignore[arg-type]  # our stand-in
        try:
            await client.embed(
                texts,
                model=self.spec.model,
                input_type=kind,
                truncation=False,
                output_dimension=self.spec.dimensions,
            )
        except voyageai.error.Timeout:
            return ProviderError("timeout", f"No reply within {self._timeout_s:g} s.")
        except Exception as error:  # noqa: BLE001 - it raises AttributeError and KeyError on replies
            return ProviderError("connection", f"The call failed: {type(error).__name__}.")
        finally:
            voyageai.aiosession.reset(token)
        return None


@dataclass(slots=True)
class _Exchange:
    """One call's HTTP session as the client sees it: it keeps the reply for us.

    Attributes:
        status: HTTP status, None until a whole reply came.
        headers: its case-insensitive headers.
        body: its bytes, None when there were more than ``max_bytes``.
    """

    session: aiohttp.ClientSession
    max_bytes: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    async def request(self, **options: Any) -> _Reply:
        """Send, and read the reply here, where its errors are still mapped by the client."""
        async with self.session.request(**options, allow_redirects=False) as response:
            body = await self._read(response)
            self.status, self.headers, self.body = response.status, response.headers, body
        # An error or an over-long body need not be parsed by the client: 204 makes it skip both.
        usable = self.status == 200 and body is not None
        return _Reply(200 if usable else 204, self.headers, body or b"")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > self.max_bytes:
                return None
        return bytes(body)


@dataclass(frozen=True, slots=True)
class _Reply:
    """As much of an aiohttp response as the client touches."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    async def read(self) -> bytes:
        return self.content

    def release(self) -> None:
        """The connection has been given back already."""


def _import_client() -> None:
    import voyageai.client_async
    import voyageai.util

    # Its logger writes request bodies at DEBUG and the server's words at INFO; content is not ours
    # to log, whatever VOYAGE_LOG says.
    logging.getLogger("voyage").setLevel(logging.WARNING)
    voyageai.log = None
    voyageai.util.VOYAGE_LOG = None
