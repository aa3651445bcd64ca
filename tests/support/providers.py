"""Opening each provider for a test: the wire providers against the fake server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engram.domain.spaces import parse_embedding
from engram.embedding.provider import Provider
from engram.embedding.registry import ProviderSettings, open_provider
from engram_cli.bench.fake_provider import FakeProvider

WIRE = {"voyage": "voyage:fake-model@32", "openai": "openai:fake-model@32"}
SECRET = "sk-secret-key-1234"


def open_against(name: str, fake: FakeProvider, timeout_s: float = 10.0) -> Provider:
    """Open a wire provider that talks to the fake server."""
    settings = ProviderSettings(
        voyage_api_key=SECRET,
        voyage_base_url=fake.url,
        openai_base_url=fake.url,
        openai_api_key=SECRET,
        timeout_s=timeout_s,
    )
    return open_provider(parse_embedding(WIRE[name]), settings)


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Provider]:
    """Open any provider of the table, and close it."""
    async with FakeProvider(dimensions=32) as fake:
        if name in WIRE:
            provider = open_against(name, fake)
        else:
            provider = open_provider(parse_embedding(name), ProviderSettings())
        try:
            yield provider
        finally:
            await provider.close()
