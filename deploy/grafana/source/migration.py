"""A move between spaces: how far it is, whether the two agree, whether the old one suffers."""

from deploy.grafana.source.panels import Board, Query, Row, course, number
from deploy.grafana.source.queries import quantile, rate, stock

_ITEMS = "engram_migration_items"
_DONE = f'max by (target) ({_ITEMS}{{state="done"}})'

_FAR = Row(
    "How far",
    (
        course(
            "Phase",
            "1 is where the newest migration stands.",
            "none",
            Query(
                stock("engram_migration_phase", "target", "phase") + " > 0", "{{target}} {{phase}}"
            ),
        ),
        number(
            "Done",
            "Share of the memories that have their vector in the target.",
            "percentunit",
            Query(
                f"{_DONE} / clamp_min(sum by (target) ({stock(_ITEMS, 'target', 'state')}), 1)",
                "done",
            ),
        ),
        number(
            "Paused",
            "1 while a person has paused it.",
            "none",
            Query(stock("engram_migration_paused", "target"), "{{target}}"),
        ),
        course(
            "Memories",
            "With and without their vector in the target.",
            "short",
            Query(stock(_ITEMS, "target", "state"), "{{target}} {{state}}"),
        ),
    ),
)

_AGREE = Row(
    "Whether the spaces agree",
    (
        course(
            "Mismatches",
            "What the last verify found different; nothing is cut over while there are any.",
            "short",
            Query(stock("engram_migration_mismatches", "target"), "{{target}}"),
        ),
        course(
            "Overlap of results",
            "Mean share of the first results of a search that both spaces find.",
            "percentunit",
            Query(stock("engram_migration_overlap_ratio", "target"), "{{target}}"),
            ceiling=1,
        ),
        course(
            "Divergence of dual writing",
            "By how many current vectors each space is behind the fullest one.",
            "short",
            Query(
                'scalar(max (engram_space_memories{state="current"})) - '
                'max by (space) (engram_space_memories{state="current"})',
                "{{space}}",
            ),
        ),
        course(
            "Pending and dead by space",
            "What a space still owes, and what it gave up.",
            "short",
            Query(
                'max by (space, state) (engram_space_memories{state=~"pending|dead"})',
                "{{space}} {{state}}",
            ),
        ),
    ),
)

_UNHARMED = Row(
    "Whether the old path suffers",
    (
        course(
            "Freshness by space, 99th percentile",
            "Live lane. The trouble of one space must not show in the other.",
            "s",
            Query(
                quantile(0.99, "engram_freshness_seconds", "space", of='lane="live"'), "{{space}}"
            ),
        ),
        course(
            "Vectors by space",
            "Committed, a second.",
            "ops",
            Query(rate("engram_embedded_vectors_total", "space"), "{{space}}"),
        ),
        course(
            "Given to bulk by the migrator",
            "Memories of the backfill, a second.",
            "ops",
            Query(rate("engram_backfill_queued_memories_total", "space"), "{{space}}"),
        ),
        course(
            "Provider requests by space and outcome",
            "Backfill asks in bulk, behind live work.",
            "reqps",
            Query(
                rate("engram_provider_request_seconds_count", "space", "outcome"),
                "{{space}} {{outcome}}",
            ),
        ),
        course(
            "Search, 99th percentile",
            "By route.",
            "s",
            Query(quantile(0.99, "engram_search_seconds", "route"), "{{route}}"),
        ),
    ),
)

BOARD = Board(
    "migration",
    "engram: migration",
    "How far a move between spaces is, and whether the two agree.",
    (_FAR, _AGREE, _UNHARMED),
)
