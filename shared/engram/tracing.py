"""Traces from a request to its vectors, while somebody has switched them on; else next to nothing.

Nothing here imports OpenTelemetry until `use` is called. What is carried from process to process is
a ``traceparent`` (https://www.w3.org/TR/trace-context/), as text, empty where there is none.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext, Tracer

HEADER: Final = "traceparent"
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_NOTHING: Final = contextlib.nullcontext()
# More would say no more: a span's links are for finding the traces it served.
_MOST_LINKS: Final = 64

_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Make spans with this tracer from now on; None switches them off."""
    global _tracer  # noqa: PLW0603 - a process traces or does not
    _tracer = tracer


def checked(traceparent: object) -> str:
    """Return a traceparent that came from outside, ``""`` unless it is well-formed."""
    if not isinstance(traceparent, str):
        return ""
    found = _TRACEPARENT.fullmatch(traceparent)
    return traceparent if found and int(found[1], 16) and int(found[2], 16) else ""


def current() -> str:
    """Return the traceparent of the span we are in, ``""`` outside of any.

    Spans of an application that uses the SDK count, so its requests carry its traces.
    """
    found = _current()
    if found is None or not found.is_valid:
        return ""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"


def headers() -> dict[str, str]:
    """Return the header that carries the current trace; none outside of any."""
    traceparent = current()
    return {HEADER: traceparent} if traceparent else {}


def exemplar() -> dict[str, str] | None:
    """Return what ties a measurement to the current trace, None unless it is recorded."""
    found = _current() if _tracer is not None else None
    if found is None or not found.is_valid or not found.trace_flags.sampled:
        return None
    return {"trace_id": f"{found.trace_id:032x}"}


def span(
    name: str, *, follows: Iterable[str] | None = None, **attributes: str | int
) -> AbstractContextManager[None]:
    """Return a context that is one span while spans are on.

    Args:
        name: of what is done.
        follows: traceparents of what caused it: the first is its parent, the others are linked.
            None: the span we are in is.
        attributes: ids and counts, never content.
    """
    if _tracer is None:
        return _NOTHING
    return _span(_tracer, name, follows, attributes)


def note(**attributes: str | int) -> None:
    """Add attributes to the span we are in."""
    if _tracer is None:
        return
    from opentelemetry import trace

    trace.get_current_span().set_attributes(attributes)


@contextlib.contextmanager
def _span(
    tracer: Tracer, name: str, follows: Iterable[str] | None, attributes: dict[str, str | int]
) -> Iterator[None]:
    from opentelemetry.trace import Link, Status, StatusCode

    parent, linked = None, list[Link]()
    if follows is not None:
        known = list(dict.fromkeys(filter(None, follows)))[: _MOST_LINKS + 1]
        parent = _context(known[0]) if known else _root()
        linked = [Link(_span_context(one)) for one in known[1:]]
    # OpenTelemetry would write down what an error says, and that may quote a memory.
    with tracer.start_as_current_span(
        name,
        parent,
        attributes=attributes,
        links=linked,
        record_exception=False,
        set_status_on_exception=False,
    ) as entered:
        try:
            yield
        except BaseException as error:
            entered.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _current() -> SpanContext | None:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    found: SpanContext = trace.get_current_span().get_span_context()
    return found


def _root() -> Context:
    from opentelemetry.context import Context

    return Context()


def _context(traceparent: str) -> Context:
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(_span_context(traceparent)), _root())


def _span_context(traceparent: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
