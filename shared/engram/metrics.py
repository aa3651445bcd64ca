"""Every metric as one table: base units, and no tenant or id in a label.

Flows are counted by whoever does the work. Stock is read from Postgres and JetStream by one
exporter, a curator (``engram_curator.stock``), so that a killed process cannot bend it; it stands
in a registry of its own, which no other process shows.
"""

import contextlib

import prometheus_client
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

# When a series began is of no use to us, and would be a third of everything that is scraped.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# How fresh: a vector that comes within this of its event is as good as promised.
FRESH_S = 10

# `service` and `pod` are Kubernetes's words for a target, so a label of ours is not called that.
BUILD = Gauge(
    "engram_build_info", "1; what runs here is in the labels.", ["process", "version", "python"]
)
POOL_WAIT = Histogram(
    "engram_pool_wait_seconds",
    "Time until a pool handed out a connection to Postgres, by pool.",
    ["pool"],
    buckets=_SECONDS,
)
INGESTED = Counter(
    "engram_ingest_memories",
    "Memories that arrived, by door (http, nats) and outcome.",
    ["door", "outcome"],
)
REQUEST_SECONDS = Histogram(
    "engram_http_request_seconds",
    "Time from request to answer, by route and status class.",
    ["route", "status"],
    buckets=_SECONDS,
)
COMMIT_SECONDS = Histogram(
    "engram_commit_seconds", "Duration of one group commit.", buckets=_SECONDS
)
COMMIT_MEMORIES = Histogram(
    "engram_commit_memories",
    "Memories in one group commit.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
QUEUED = Gauge("engram_ingest_queued_memories", "Memories waiting for a group commit.")
REFUSED = Counter(
    "engram_ingest_refused", "Requests answered 429, by what was too deep.", ["reason"]
)
DEAD_LETTERS = Counter(
    "engram_dead_letters", "Inputs put aside because they cannot be done, by kind.", ["kind"]
)
PUBLISHED = Counter("engram_outbox_published", "Outbox lines the broker has stored.")
EMBEDDED = Counter("engram_embedded_vectors", "Vectors committed.", ["space"])
REUSED = Counter("engram_reused_vectors", "Vectors taken from an equal text.", ["space"])
DROPPED = Counter(
    "engram_late_vectors", "Vectors refused because their memory had changed.", ["space"]
)
FAILED = Counter(
    "engram_embedding_failures", "Texts that could not be embedded, by class.", ["space", "class"]
)
PROVIDER_SECONDS = Histogram(
    "engram_provider_request_seconds",
    "Duration of one provider request, by kind and outcome.",
    ["space", "kind", "outcome"],
    buckets=_SECONDS,
)
PROVIDER_TOKENS = Counter(
    "engram_provider_tokens", "Tokens the provider counted.", ["space", "kind"]
)
PROVIDER_COST = Counter(
    "engram_provider_cost_dollars",
    "What the counted tokens cost in US dollars, by the price of the model.",
    ["space", "kind"],
)
BUDGET_SHARE = Gauge(
    "engram_provider_budget_share",
    "Part of the allowed rate in use; a 429 halves it.",
    ["provider", "model"],
)
BUDGET_WAIT = Histogram(
    "engram_provider_budget_wait_seconds",
    "Time a provider request waited for the rate budget, by kind.",
    ["space", "kind"],
    buckets=_SECONDS,
)
BREAKER = Gauge(
    "engram_provider_breaker",
    "0 calls pass, 0.5 a probe is under way, 1 the provider is taken for down.",
    ["provider", "model"],
)
WINDOW = Gauge(
    "engram_provider_window_calls",
    "Calls that may be in flight at once, as adapted.",
    ["provider", "model"],
)
LANE_PAUSED = Gauge(
    "engram_lane_paused", "1 while a lane waits because the provider refuses us.", ["space"]
)
SPILLED = Counter(
    "engram_spilled_memories",
    "Memories that went from the live lane to bulk, above their workspace's share.",
    ["space"],
)
FRESHNESS = Histogram(
    "engram_freshness_seconds",
    "Time from the event to the committed vector, by lane (live, retry, bulk).",
    ["space", "lane"],
    buckets=_SECONDS,
)
SEARCH_SECONDS = Histogram(
    "engram_search_seconds", "Duration of a search, by route.", ["route"], buckets=_SECONDS
)
RESTORED = Counter(
    "engram_restored_memories", "Merged memories that an undo has made themselves again."
)
DECIDED = Counter(
    "engram_dedup_decisions",
    "What people decided on proposals and conflicts, by kind and decision.",
    ["kind", "decision"],
)
DEDUP_PAIRS = Counter(
    "engram_dedup_pairs", "Near pairs of texts read by the dedup sweep, by decision.", ["decision"]
)
DEDUP_MERGED = Counter("engram_dedup_merged_memories", "Memories absorbed by the dedup sweep.")
DEDUP_RUNS = Counter(
    "engram_dedup_runs", "Dedup runs that ended at a curator, by state.", ["state"]
)
DEDUP_CAPPED = Counter(
    "engram_dedup_capped", "Times a cap kept the dedup sweep from merging: somebody should look."
)
EXPORTED = Counter(
    "engram_exported_memories", "Memories that left in an export, by format.", ["format"]
)
SWEEP_SECONDS = Histogram(
    "engram_sweep_seconds",
    "Duration of a sweep.",
    ["sweep", "outcome"],
    buckets=(0.01, 0.1, 1, 10, 60, 600, 3600),
)
RECONCILE_FOUND = Gauge(
    "engram_reconcile_found",
    "Memories whose vector differed at the last reconcile, by kind.",
    ["space", "kind"],
)
MISSING_AGE = Gauge(
    "engram_missing_oldest_seconds",
    "Age of the oldest text found without its vector by the last reconcile.",
    ["space"],
)
RECONCILE_REPAIRS = Counter(
    "engram_reconcile_repairs",
    "Vectors deleted and memories made due by reconcile.",
    ["space", "repair"],
)
BACKFILL_QUEUED = Counter(
    "engram_backfill_queued_memories",
    "Memories that the migrator gave to the bulk lane of a migration's target.",
    ["space"],
)
STREAM_LOSSES = Counter(
    "engram_stream_losses",
    "Times messages were seen to be gone from the event stream, by kind.",
    ["kind"],
)
TOPOLOGY_REPAIRS = Counter(
    "engram_topology_repairs", "Streams and consumers found missing and made again.", ["kind"]
)
GIVEN_UP = Counter(
    "engram_given_up_messages",
    "Messages the broker will not deliver again (max_deliveries, terminated), by stream.",
    ["kind", "stream"],
)
ACCESSES = Counter(
    "engram_accesses",
    "Search hits counted, by outcome (settled: written or their memory is gone; dropped).",
    ["outcome"],
)
ACCESSES_WAITING = Gauge(
    "engram_accesses_waiting_memories", "Memories whose hits were not written by the last flush."
)
DECAY_ARCHIVED = Counter("engram_decay_archived_memories", "Memories archived by decay.")
DECAY_SLOWED = Counter(
    "engram_decay_slowed_namespaces",
    "Namespaces of which a run of decay left some for the next one, because of the cap.",
)
DECAY_CLOCK_SET = Counter(
    "engram_decay_clock_set",
    "Times the database's clock was found to have been set, by direction (forwards, backwards).",
    ["direction"],
)

# Stock: what there is now, by SQL and by JetStream, from one exporter -----------------------------

STOCK = CollectorRegistry()
_GAUGES: list[Gauge] = []


def show_stock(*, shown: bool) -> None:
    """Show stock with the other metrics of this process, or take it away and forget it."""
    if shown:
        # The registry says so when it is there already.
        with contextlib.suppress(ValueError):
            REGISTRY.register(STOCK)
        return
    with contextlib.suppress(KeyError):
        REGISTRY.unregister(STOCK)
    for gauge in _GAUGES:
        gauge.clear()


def _stock(name: str, text: str, *labels: str) -> Gauge:
    _GAUGES.append(Gauge(f"engram_{name}", text, labels, registry=STOCK))
    return _GAUGES[-1]


STOCK_COUNTED = _stock(
    "stock_counted_timestamp_seconds",
    "When stock was read, by tier (quick: queues, sizes, sweeps; counted: every memory).",
    "tier",
)
STOCK_SECONDS = _stock(
    "stock_read_seconds", "How long the last reading of stock took, by tier.", "tier"
)
MEMORIES = _stock("memories", "Memories by state (SQL).", "state")
SPACE_MEMORIES = _stock(
    "space_memories",
    "Active memories of a space, each in one state (SQL): current, pending or dead.",
    *("space", "state"),
)
SPACE_DIFFERENCES = _stock(
    "space_differences",
    "Of a space (SQL): missing and stale memories, on their way or not, and orphan vectors.",
    *("space", "kind"),
)
SPACE_OLDEST = _stock(
    "space_oldest_pending_seconds",
    "Age of the oldest text of a space that is pending (SQL).",
    "space",
)
FAILING = _stock(
    "failing_memories", "Memories that wait to be tried again, by class (SQL).", "space", "class"
)
DEAD = _stock(
    "dead_letters_waiting",
    "Inputs put aside and neither replayed nor discarded, by kind and class (SQL).",
    *("kind", "class"),
)
OUTBOX_LINES = _stock("outbox_lines", "Outbox lines not yet published (SQL).")
OUTBOX_AGE = _stock("outbox_oldest_seconds", "Age of the oldest unpublished line (SQL).")
BULK_WAITING = _stock("bulk_waiting_memories", "Memories in the bulk lane's queue (SQL).", "space")
BULK_AGE = _stock(
    "bulk_oldest_seconds", "Age of the oldest batch in the bulk queue (SQL).", "space"
)
LANE_PENDING = _stock(
    "lane_pending_messages", "Messages of a durable not yet delivered (JetStream).", "lane", "space"
)
LANE_ACK_PENDING = _stock(
    "lane_ack_pending_messages",
    "Messages of a durable that were delivered and not acknowledged (JetStream).",
    *("lane", "space"),
)
LANE_REDELIVERED = _stock(
    "lane_redelivered_messages",
    "Of the messages not acknowledged, those delivered more than once (JetStream).",
    *("lane", "space"),
)
LANE_AGE = _stock(
    "lane_oldest_seconds",
    "Age of the oldest message a durable has not acknowledged (JetStream).",
    *("lane", "space"),
)
STREAM_MESSAGES = _stock("stream_messages", "Messages kept in a stream (JetStream).", "stream")
STREAM_BYTES = _stock("stream_bytes", "Size of a stream (JetStream).", "stream")
STREAM_LIMIT = _stock(
    "stream_limit_bytes", "Size at which a stream refuses what is new (JetStream).", "stream"
)
SWEEP_SUCCESS = _stock(
    "sweep_last_success_timestamp_seconds", "When a sweep last ended well (SQL).", "sweep"
)
SWEEP_FAILED = _stock("sweep_failed", "1 when a sweep's last run ended badly (SQL).", "sweep")
SWEEP_ENABLED = _stock("sweep_enabled", "0 while a sweep is switched off (SQL).", "sweep")
SWEEP_EVERY = _stock("sweep_interval_seconds", "How often a sweep is due (SQL).", "sweep")
SWEEP_OVERDUE = _stock(
    "sweep_overdue_seconds", "For how long a sweep is due that nobody runs (SQL).", "sweep"
)
DEDUP_RECENT = _stock(
    "dedup_recent_memories",
    "Memories that runs of the last 7 days merged, and those restored since (SQL).",
    "outcome",
)
FINDINGS = _stock(
    "dedup_open_findings", "Proposals and conflicts that wait for a person (SQL).", "kind"
)
DEDUP_UNCALIBRATED = _stock(
    "dedup_uncalibrated_spaces",
    "Spaces that came by a migration, are read, and may merge nothing before calibration (SQL).",
)
DECAY_WITHHELD = _stock(
    "decay_withheld_seconds", "Course of the wall clock that decay does not count (SQL)."
)
MIGRATION_PHASE = _stock(
    "migration_phase", "1 for the phase of the newest migration (SQL).", "target", "phase"
)
MIGRATION_PAUSED = _stock("migration_paused", "1 while a migration is paused (SQL).", "target")
MIGRATION_ITEMS = _stock(
    "migration_items",
    "Memories of a migration (SQL): done have their vector in the target, missing have not.",
    *("target", "state"),
)
MIGRATION_MISMATCHES = _stock(
    "migration_mismatches", "What the last verify found different (SQL).", "target"
)
MIGRATION_OVERLAP = _stock(
    "migration_overlap_ratio",
    "Mean share of the first results that both spaces find, at the last verify (SQL).",
    "target",
)
DATABASE_BYTES = _stock("database_bytes", "Size of the whole database (Postgres).")
TABLE_BYTES = _stock("table_bytes", "Size of a table without its indexes (Postgres).", "table")
INDEX_BYTES = _stock("index_bytes", "Size of all indexes of a table (Postgres).", "table")
TABLE_LIVE = _stock("table_live_rows", "Live rows of a table, estimated (Postgres).", "table")
TABLE_DEAD = _stock(
    "table_dead_rows", "Dead rows of a table that vacuum has yet to remove, estimated.", "table"
)
DISK_FREE = _stock("disk_free_bytes", "Free room on a disk (data: of ENGRAM_DATA_DIR).", "disk")
DISK_SIZE = _stock("disk_size_bytes", "Size of a disk (data: of ENGRAM_DATA_DIR).", "disk")
