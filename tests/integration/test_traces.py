"""Traces go from the request, or the command, to the vector; without them nothing is imported."""

import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engram import events, tracing
from engram.errors import UsageError
from engram.publisher import Publisher
from engram.serving.operations import operations_app
from engram.serving.telemetry import traced
from tests.support.store import Store, open_store
from tests.support.wait import eventually

CAUSE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider.get_tracer("test"))
    yield exporter
    tracing.use(None)
    provider.shutdown()


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True, commands=True
    ) as opened:
        yield opened


def of_trace(spans: InMemorySpanExporter, trace_id: int) -> dict[str, ReadableSpan]:
    return {
        span.name: span for span in spans.get_finished_spans() if span.context.trace_id == trace_id
    }


async def chain(spans: InMemorySpanExporter, trace_id: int, names: list[str]) -> None:
    """See that these spans end in this trace, each the child of the one before."""

    async def there() -> bool:
        return set(names) <= set(of_trace(spans, trace_id))

    await eventually(there, 20)
    found = of_trace(spans, trace_id)
    for parent, child in itertools.pairwise(names):
        assert found[child].parent is not None, child
        assert found[child].parent.span_id == found[parent].context.span_id, child


async def test_one_trace_leads_from_the_request_to_the_vector(
    store: Store, spans: InMemorySpanExporter
) -> None:
    headers = {"traceparent": CAUSE}
    answer = await store.client.post("/v1/memories", json={"content": "hello"}, headers=headers)
    assert answer.status_code == 201
    trace_id = int(CAUSE.split("-")[1], 16)
    await chain(spans, trace_id, ["request", "commit", "bell", "embed batch", "store vectors"])
    found = of_trace(spans, trace_id)
    assert found["request"].parent is not None
    assert f"{found['request'].parent.span_id:016x}" == CAUSE.split("-")[2]
    assert found["provider"].parent.span_id == found["embed batch"].context.span_id
    assert found["request"].attributes["route"] == "/v1/memories"


async def test_a_command_carries_the_trace_of_the_application_that_sent_it(
    store: Store, spans: InMemorySpanExporter
) -> None:
    nats_url = store.settings.require_nats()
    async with Publisher(nats_url, str(store.workspace)) as publisher:
        with tracing.span("application"):
            trace_id = int(tracing.current().split("-")[1], 16)
            await publisher.create({"content": "by NATS"})
    await chain(
        spans,
        trace_id,
        ["application", "command", "write command", "commit", "bell", "embed batch"],
    )


async def test_requests_that_share_a_commit_are_linked_to_it(spans: InMemorySpanExporter) -> None:
    others = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 4)]
    with tracing.span("commit", follows=[others[0], "", *others]):
        pass
    [span] = spans.get_finished_spans()
    assert span.parent is not None
    assert span.parent.trace_id == 1
    assert [link.context.trace_id for link in span.links] == [2, 3]


async def test_an_error_is_named_and_never_quoted(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), tracing.span("provider"):
        raise ValueError("the text of a memory")
    [span] = spans.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "memory" not in span.to_json()


def test_what_comes_from_outside_is_a_traceparent_or_nothing() -> None:
    assert tracing.checked(CAUSE) == CAUSE
    for bad in (None, "", 7, CAUSE.upper(), CAUSE + "x", CAUSE.replace("00-", "01-", 1)):
        assert tracing.checked(bad) == ""
    assert tracing.checked(f"00-{'0' * 32}-{'1' * 16}-01") == ""


async def test_an_event_carries_its_traceparent_as_cloudevents_extension(
    store: Store, spans: InMemorySpanExporter
) -> None:
    await store.sql.execute("DELETE FROM engram.outbox")
    stored = await store.service.jetstream.pull_subscribe(
        "engram.v1.memory.created", stream="ENGRAM_MEMORY"
    )
    await store.client.post("/v1/memories", json={"content": "x"}, headers={"traceparent": CAUSE})
    [message] = await stored.fetch(1, timeout=10)
    event = events.decode_items_event(message.data)
    assert event.traceparent.split("-")[1] == CAUSE.split("-")[1]


async def test_who_asks_for_openmetrics_is_told_the_trace_of_a_measurement(
    store: Store, spans: InMemorySpanExporter
) -> None:
    await store.client.post("/v1/memories", json={"content": "x"}, headers={"traceparent": CAUSE})
    transport = httpx.ASGITransport(operations_app("test", []))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        plain = await client.get("/metrics")
        asked = {"Accept": "application/openmetrics-text; version=1.0.0"}

        async def told() -> bool:
            answer = await client.get("/metrics", headers=asked)
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            lines = [one for one in answer.text.splitlines() if CAUSE.split("-")[1] in one]
            names = {line.split("{")[0] for line in lines}
            return {
                "engram_http_request_seconds_bucket",
                "engram_freshness_seconds_bucket",
            } <= names

        await eventually(told, 20)
    assert "trace_id" not in plain.text


def test_a_service_without_a_collector_imports_no_sdk() -> None:
    script = (
        "import sys, engram_ingest.service, engram_embedder.service, engram_curator.service\n"
        "from engram import tracing\n"
        "with tracing.span('x'): assert tracing.current() == '' and tracing.headers() == {}\n"
        "assert tracing.exemplar() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_a_collector_without_the_extra_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError) as refused:
        async with traced("ingest", "http://127.0.0.1:4318"):
            pass
    assert refused.value.code == "otel_missing"


async def test_spans_reach_a_collector_and_one_that_is_away_holds_nothing_up() -> None:
    from tests.unit.http_stub import serving

    with serving() as collector:
        collector.script((200, b""))
        async with traced("ingest", collector.url):
            with tracing.span("request", follows=[""]):
                pass
        assert [asked.path for asked in collector.asked] == ["/v1/traces"]
        assert b"engram-ingest" in collector.asked[0].body
    async with traced("ingest", None):
        assert tracing.headers() == {}
