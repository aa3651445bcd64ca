"""Sends the traces of a service to a collector, when it is told of one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from engram import tracing
from engram.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_DRAIN_MS = 3_000


@contextlib.asynccontextmanager
async def traced(service: str, otlp_url: str | None) -> AsyncIterator[None]:
    """Record spans while inside, and send what is left on leaving.

    OpenTelemetry's own variables choose the sampler (OTEL_TRACES_SAMPLER) and further attributes of
    the resource (OTEL_RESOURCE_ATTRIBUTES).

    Args:
        service: its name in traces.
        otlp_url: of a collector, without ``/v1/traces``; None for no traces.

    Raises:
        UsageError: ``otel_missing``.
    """
    if not otlp_url:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(
            "otel_missing",
            "ENGRAM_OTLP_URL is set, and OpenTelemetry is not installed.",
            cure="Install engram[otel], or unset ENGRAM_OTLP_URL.",
        ) from error
    resource = Resource.create(
        {"service.name": f"engram-{service}", "service.version": version("engram")}
    )
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{otlp_url.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracing.use(provider.get_tracer("engram"))
    try:
        yield
    finally:
        tracing.use(None)
        # In a thread: a collector that is away must not hold up the loop that drains.
        await asyncio.to_thread(_end, provider)


def _end(provider: "TracerProvider") -> None:
    with contextlib.suppress(Exception):
        provider.force_flush(_DRAIN_MS)
        provider.shutdown()
