"""Counters at nought: what a process may count is shown from its start."""

from typing import get_args

from prometheus_client import Counter

from engram import metrics
from engram.domain.retry import ErrorClass

# A series that begins at one has not grown for Prometheus, it is new: so these begin at nought.
_KNOWN: tuple[tuple[Counter, tuple[tuple[str, ...], ...]], ...] = (
    (metrics.INGESTED, (("http", "created"), ("nats", "created"), ("import", "imported"))),
    (metrics.REFUSED, (("workspace_queue",), ("queue",), ("workspace_outbox",), ("outbox",))),
    (metrics.DEAD_LETTERS, (("embedding",), ("ingest",))),
    (metrics.DEDUP_PAIRS, (("merge",), ("propose",), ("conflict",), ("distinct",))),
    (metrics.DEDUP_RUNS, (("done",), ("capped",), ("cancelled",), ("failed",))),
    (
        metrics.DECIDED,
        (("proposal", "accepted"), ("proposal", "rejected"), ("conflict", "resolved")),
    ),
    (metrics.STREAM_LOSSES, (("made_anew",), ("removed",), ("purged",))),
    (metrics.TOPOLOGY_REPAIRS, (("stream",), ("durable",))),
    (metrics.DECAY_CLOCK_SET, (("forwards",), ("backwards",))),
    (metrics.ACCESSES, (("settled",), ("dropped",))),
    (
        metrics.GIVEN_UP,
        tuple(
            (kind, stream)
            for kind in ("max_deliveries", "terminated")
            for stream in ("ENGRAM_INGEST", "ENGRAM_MEMORY")
        ),
    ),
)


def begin() -> None:
    """Show the counters with labels that are known beforehand, at nought."""
    for counter, labels in _KNOWN:
        for values in labels:
            counter.labels(*values)


def begin_space(space: str) -> None:
    """Show what will be counted of a space and its provider, at nought.

    Args:
        space: its public name.
    """
    for counter in (
        *(metrics.EMBEDDED, metrics.REUSED, metrics.DROPPED, metrics.SPILLED),
        metrics.BACKFILL_QUEUED,
    ):
        counter.labels(space)
    for error_class in get_args(ErrorClass):
        metrics.FAILED.labels(space, error_class)
    for kind in ("document", "query"):
        metrics.PROVIDER_TOKENS.labels(space, kind)
        for outcome in ("ok", "rate_limited", "auth"):
            metrics.PROVIDER_SECONDS.labels(space, kind, outcome)
