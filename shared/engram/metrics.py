"""Every metric as one table: base units, and no tenant or id in a label."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

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
OUTBOX_LINES = Gauge("engram_outbox_lines", "Outbox lines not yet published (SQL).")
OUTBOX_AGE = Gauge("engram_outbox_oldest_seconds", "Age of the oldest unpublished line (SQL).")
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
BULK_WAITING = Gauge(
    "engram_bulk_waiting_memories", "Memories in the bulk lane's queue (SQL).", ["space"]
)
BULK_AGE = Gauge(
    "engram_bulk_oldest_seconds", "Age of the oldest batch in the bulk queue (SQL).", ["space"]
)
FRESHNESS = Histogram(
    "engram_freshness_seconds",
    "Time from the event to the committed vector, by lane (live, bulk).",
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
DECAY_WITHHELD = Gauge(
    "engram_decay_withheld_seconds", "Course of the wall clock that decay does not count (SQL)."
)
DECAY_CLOCK_SET = Counter(
    "engram_decay_clock_set",
    "Times the database's clock was found to have been set, by direction (forwards, backwards).",
    ["direction"],
)
