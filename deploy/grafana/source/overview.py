"""The first look: are memories fresh, does work come and go, what is there."""

from deploy.grafana.source.panels import Board, Query, Row, course, number
from deploy.grafana.source.queries import (
    PROMISED,
    budget_left,
    burn,
    fresh_share,
    quantile,
    rate,
    stock,
)

_FRESH = "engram_freshness_seconds"

_PROMISE = Row(
    "The promise: 99 % of memories have their vector 10 s after their event",
    (
        number(
            "Fresh within 10 s, 30 days",
            "Share of memories whose vector was committed within 10 s of the event. Bulk work is "
            "not part of the promise.",
            "percentunit",
            Query(fresh_share("30d"), "fresh"),
        ),
        number(
            "Error budget left, 30 days",
            "What is left of the 1 % that may be late. Below nought the promise is broken.",
            "percentunit",
            Query(budget_left("30d"), "left"),
        ),
        course(
            "Freshness",
            "Time from the event to the committed vector, live lane and retries.",
            "s",
            *(Query(quantile(q, _FRESH, of=PROMISED), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        ),
        course(
            "Burn rate",
            "How many times faster than allowed the error budget is used up. At 1 it lasts 30 "
            "days; alerts begin at 14.4 (an hour), 6 (six hours) and 1 (three days).",
            "none",
            *(Query(burn(window), window) for window in ("5m", "1h", "6h")),
        ),
    ),
)

_WORK = Row(
    "Work",
    (
        course(
            "Memories that arrive",
            "By outcome; `folded` and `replayed` were known already.",
            "ops",
            Query(rate("engram_ingest_memories_total", "outcome"), "{{outcome}}"),
        ),
        course(
            "Vectors committed",
            "By space. Reused vectors come from equal texts of the same workspace.",
            "ops",
            Query(rate("engram_embedded_vectors_total", "space"), "{{space}}"),
            Query(rate("engram_reused_vectors_total", "space"), "{{space}}, reused"),
        ),
        course(
            "Search, 95th percentile",
            "By route: `exact` scans a small scope, `indexed` a large one, `words` answers while a "
            "query cannot be embedded.",
            "s",
            Query(quantile(0.95, "engram_search_seconds", "route"), "{{route}}"),
        ),
        course(
            "HTTP answers",
            "By class of status. 5xx is a fault of engram; 429 is back-pressure.",
            "reqps",
            Query(rate("engram_http_request_seconds_count", "status"), "{{status}}"),
        ),
        course(
            "Oldest text that waits for its vector",
            "By space, from Postgres. It rises while a lane stands still, whatever the reason.",
            "s",
            Query(stock("engram_space_oldest_pending_seconds", "space"), "{{space}}"),
        ),
        course(
            "Lanes paused",
            "1 while a lane of a space waits because the provider refuses everything.",
            "none",
            Query(stock("engram_lane_paused", "space"), "{{space}}"),
        ),
    ),
)

_THERE = Row(
    "What there is",
    (
        course(
            "Memories by state",
            "Exact, from Postgres.",
            "short",
            Query(stock("engram_memories", "state"), "{{state}}"),
        ),
        course(
            "Vectors by space",
            "Active memories, each in one state: current, pending or dead-lettered.",
            "short",
            Query(stock("engram_space_memories", "space", "state"), "{{space}} {{state}}"),
        ),
        course(
            "Dead letters",
            "Inputs that were put aside and wait for a person, by kind.",
            "short",
            Query(
                f"sum by (kind) ({stock('engram_dead_letters_waiting', 'kind', 'class')})",
                "{{kind}}",
            ),
        ),
        course(
            "Processes",
            "By service and version: two versions at once are a rollout, or one that got stuck.",
            "short",
            Query("count by (process, version) (engram_build_info)", "{{process}} {{version}}"),
        ),
    ),
)

BOARD = Board(
    "overview",
    "engram: overview",
    "Whether memories are fresh, what happens and what there is.",
    (_PROMISE, _WORK, _THERE),
)
