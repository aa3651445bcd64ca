"""From the door to the vector: where work waits, and for how long."""

from deploy.grafana.source.panels import Board, Query, Row, course
from deploy.grafana.source.queries import quantile, rate, stock

_DOOR = Row(
    "Ingest",
    (
        course(
            "Arrivals by door",
            "http, nats and import.",
            "ops",
            Query(rate("engram_ingest_memories_total", "door", "outcome"), "{{door}} {{outcome}}"),
        ),
        course(
            "Refused with 429",
            "By what was too deep: the queue or the outbox, of a workspace or of all.",
            "reqps",
            Query(rate("engram_ingest_refused_total", "reason"), "{{reason}}"),
        ),
        course(
            "Waiting for a group commit",
            "Memories in the queue of each ingest process.",
            "short",
            Query("sum (engram_ingest_queued_memories)", "queued"),
        ),
        course(
            "Group commit",
            "Duration of one commit, which many requests share.",
            "s",
            Query(quantile(0.5, "engram_commit_seconds"), "p50"),
            Query(quantile(0.99, "engram_commit_seconds"), "p99"),
        ),
        course(
            "Memories in one commit",
            "Mean. It grows with load: that is what keeps the disk from being the limit.",
            "short",
            Query(
                f"{rate('engram_commit_memories_sum')} / {rate('engram_commit_memories_count')}",
                "mean",
            ),
        ),
        course(
            "Memories that leave",
            "In exports, by format.",
            "ops",
            Query(rate("engram_exported_memories_total", "format"), "{{format}}"),
        ),
        course(
            "Request time by route, 95th percentile",
            "From request to answer.",
            "s",
            Query(quantile(0.95, "engram_http_request_seconds", "route"), "{{route}}"),
        ),
    ),
)

_OUTBOX = Row(
    "Outbox",
    (
        course(
            "Lines not yet published",
            "From Postgres. They pile up while NATS is away; nothing is lost.",
            "short",
            Query(stock("engram_outbox_lines"), "lines"),
        ),
        course(
            "Oldest line",
            "Age of the oldest event that is stored and not announced.",
            "s",
            Query(stock("engram_outbox_oldest_seconds"), "oldest"),
        ),
        course(
            "Published",
            "Lines the broker has stored.",
            "ops",
            Query(rate("engram_outbox_published_total"), "lines"),
        ),
    ),
)

_LANES = Row(
    "Lanes",
    (
        course(
            "Not yet delivered",
            "Messages that wait in the durable of each lane.",
            "short",
            Query(stock("engram_lane_pending_messages", "lane", "space"), "{{lane}} {{space}}"),
        ),
        course(
            "Delivered, not acknowledged",
            "In the hands of a worker.",
            "short",
            Query(stock("engram_lane_ack_pending_messages", "lane", "space"), "{{lane}} {{space}}"),
        ),
        course(
            "Delivered again",
            "Of those not acknowledged. Workers die, or take longer than they say.",
            "short",
            Query(stock("engram_lane_redelivered_messages", "lane", "space"), "{{lane}} {{space}}"),
        ),
        course(
            "Oldest message",
            "Age of the oldest message a lane has not acknowledged.",
            "s",
            Query(stock("engram_lane_oldest_seconds", "lane", "space"), "{{lane}} {{space}}"),
        ),
        course(
            "Bulk queue",
            "Memories that wait for their turn in bulk.",
            "short",
            Query(stock("engram_bulk_waiting_memories", "space"), "{{space}}"),
        ),
        course(
            "Oldest in the bulk queue",
            "How long its oldest batch waits.",
            "s",
            Query(stock("engram_bulk_oldest_seconds", "space"), "{{space}}"),
        ),
        course(
            "Spilled to bulk",
            "What workspaces rang above their share of the live lane.",
            "ops",
            Query(rate("engram_spilled_memories_total", "space"), "{{space}}"),
        ),
        course(
            "Freshness by lane, 99th percentile",
            "Time from the event, or from queueing in bulk, to the committed vector.",
            "s",
            Query(quantile(0.99, "engram_freshness_seconds", "lane"), "{{lane}}"),
        ),
    ),
)

_TROUBLE = Row(
    "Trouble",
    (
        course(
            "Waiting to be tried again",
            "Memories by class of error, from Postgres.",
            "short",
            Query(
                f"sum by (class) ({stock('engram_failing_memories', 'space', 'class')})",
                "{{class}}",
            ),
        ),
        course(
            "Dead letters by class",
            "Put aside: they wait for a person.",
            "short",
            Query(stock("engram_dead_letters_waiting", "kind", "class"), "{{kind}} {{class}}"),
        ),
        course(
            "Newly dead",
            "Inputs put aside, by kind.",
            "ops",
            Query(rate("engram_dead_letters_total", "kind"), "{{kind}}"),
        ),
        course(
            "Late vectors refused",
            "The memory had changed while its old text was embedded.",
            "ops",
            Query(rate("engram_late_vectors_total", "space"), "{{space}}"),
        ),
        course(
            "Broker repaired",
            "Streams and durables made again, losses seen, and messages the broker gave up.",
            "short",
            Query(
                "sum by (kind) (increase(engram_topology_repairs_total[1h]))",
                "made again: {{kind}}",
            ),
            Query("sum by (kind) (increase(engram_stream_losses_total[1h]))", "lost: {{kind}}"),
            Query(
                "sum by (kind) (increase(engram_given_up_messages_total[1h]))", "given up: {{kind}}"
            ),
        ),
    ),
)

BOARD = Board(
    "pipeline",
    "engram: pipeline",
    "From the door to the vector: where work waits, and for how long.",
    (_DOOR, _OUTBOX, _LANES, _TROUBLE),
)
