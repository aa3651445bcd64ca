"""The sweeps: whether they run, what they find, what people undo."""

from deploy.grafana.source.panels import Board, Query, Row, course
from deploy.grafana.source.queries import quantile, rate, stock

_SWEEPS = Row(
    "Sweeps",
    (
        course(
            "Since the last success",
            "From the table of sweeps.",
            "s",
            Query(
                f"time() - {stock('engram_sweep_last_success_timestamp_seconds', 'sweep')}",
                "{{sweep}}",
            ),
        ),
        course(
            "Overdue",
            "For how long a sweep is due that nobody runs.",
            "s",
            Query(stock("engram_sweep_overdue_seconds", "sweep"), "{{sweep}}"),
        ),
        course(
            "Last run failed",
            "1 when it ended with an error; `engram schedule list` names it.",
            "none",
            Query(stock("engram_sweep_failed", "sweep"), "{{sweep}}"),
        ),
        course(
            "Duration, 95th percentile",
            "Of runs in the last hour.",
            "s",
            Query(
                "histogram_quantile(0.95, sum by (le, sweep) "
                "(rate(engram_sweep_seconds_bucket[1h])))",
                "{{sweep}}",
            ),
        ),
        course(
            "Switched on",
            "0: a person has switched the sweep off.",
            "none",
            Query(stock("engram_sweep_enabled", "sweep"), "{{sweep}}"),
        ),
    ),
)

_RECONCILE = Row(
    "Reconcile",
    (
        course(
            "What differs now",
            "Exact, from Postgres. Missing and stale ones may be on their way; orphans never are.",
            "short",
            Query(stock("engram_space_differences", "space", "kind"), "{{space}} {{kind}}"),
        ),
        course(
            "Found by the last pass",
            "What bells had missed.",
            "short",
            Query(stock("engram_reconcile_found", "space", "kind"), "{{space}} {{kind}}"),
        ),
        course(
            "Repairs",
            "Vectors deleted and memories made due, an hour.",
            "short",
            Query(
                "sum by (space, repair) (increase(engram_reconcile_repairs_total[1h]))",
                "{{space}} {{repair}}",
            ),
        ),
        course(
            "Oldest found without its vector",
            "Above 600 s a memory was missed by two passes.",
            "s",
            Query(stock("engram_missing_oldest_seconds", "space"), "{{space}}"),
        ),
    ),
)

_DEDUP = Row(
    "Near-duplicates",
    (
        course(
            "Pairs by decision",
            "Near pairs of texts that the sweep read.",
            "ops",
            Query(rate("engram_dedup_pairs_total", "decision"), "{{decision}}"),
        ),
        course(
            "Merged and restored",
            "Memories a day that the sweep absorbed, and that an undo made themselves again.",
            "short",
            Query("sum(increase(engram_dedup_merged_memories_total[1d]))", "merged"),
            Query("sum(increase(engram_restored_memories_total[1d]))", "restored"),
        ),
        course(
            "Undone share of the last 7 days' runs",
            "From the runs themselves. People undo what they find wrong: it should be near nought.",
            "percentunit",
            Query(
                'max (engram_dedup_recent_memories{outcome="restored"}) / '
                'clamp_min(max (engram_dedup_recent_memories{outcome="merged"}), 1)',
                "undone",
            ),
            ceiling=1,
        ),
        course(
            "Runs by end",
            "A day. `capped` stopped at a cap, `failed` met an error.",
            "short",
            Query("sum by (state) (increase(engram_dedup_runs_total[1d]))", "{{state}}"),
            Query("sum(increase(engram_dedup_capped_total[1d]))", "caps hit"),
        ),
        course(
            "Waiting for a person",
            "Open proposals and conflicts.",
            "short",
            Query(stock("engram_dedup_open_findings", "kind"), "{{kind}}"),
        ),
        course(
            "Spaces without thresholds",
            "Spaces that came by a migration and merge nothing before they are calibrated.",
            "short",
            Query(stock("engram_dedup_uncalibrated_spaces"), "spaces"),
        ),
        course(
            "Decisions of people",
            "A day, by kind.",
            "short",
            Query(
                "sum by (kind, decision) (increase(engram_dedup_decisions_total[1d]))",
                "{{kind}} {{decision}}",
            ),
        ),
    ),
)

_DECAY = Row(
    "Decay",
    (
        course(
            "Archived",
            "Memories a day that faded below the floor.",
            "short",
            Query("sum(increase(engram_decay_archived_memories_total[1d]))", "archived"),
        ),
        course(
            "Namespaces slowed",
            "A day: more would have faded at once than the cap lets through.",
            "short",
            Query("sum(increase(engram_decay_slowed_namespaces_total[1d]))", "slowed"),
        ),
        course(
            "Time that does not count",
            "Course of the wall clock that decay leaves out, because somebody set the clock.",
            "s",
            Query(stock("engram_decay_withheld_seconds"), "withheld"),
        ),
        course(
            "Clock set",
            "Times a day that the database's clock was found to have been set.",
            "short",
            Query(
                "sum by (direction) (increase(engram_decay_clock_set_total[1d]))", "{{direction}}"
            ),
        ),
        course(
            "Search hits",
            "Hits counted, and those lost because Postgres was away too long.",
            "ops",
            Query(rate("engram_accesses_total", "outcome"), "{{outcome}}"),
        ),
        course(
            "Hits not yet written",
            "Memories whose hits the last flush left.",
            "short",
            Query("sum (engram_accesses_waiting_memories)", "waiting"),
        ),
        course(
            "Search by route, median",
            "Decay and dedup change what searches read: this is where it shows.",
            "s",
            Query(quantile(0.5, "engram_search_seconds", "route"), "{{route}}"),
        ),
    ),
)

BOARD = Board(
    "curator",
    "engram: curator",
    "Whether the sweeps run, what they find and what people undo.",
    (_SWEEPS, _RECONCILE, _DEDUP, _DECAY),
)
