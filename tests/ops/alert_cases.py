"""For each alert: series that make it fire, and series next to them that must not.

Values are promtool's: `a+bxn` begins at a and grows by b, n times, a minute apart; `_` is none.
"""

from dataclasses import dataclass, field
from typing import Any

from engram_cli.services import SERVICES

LIVE = 'lane="live",space="a"'
FRESH = f'engram_freshness_seconds_bucket{{{LIVE},le="10.0"}}'
EVENTS = f"engram_freshness_seconds_count{{{LIVE}}}"
DAYS = 4_400

# A healthy system: every alert must be quiet on it.
HEALTHY: dict[str, str] = {
    **{f'engram_build_info{{process="{name}"}}': f"1x{DAYS}" for name in SERVICES},
    'engram_stock_counted_timestamp_seconds{tier="quick"}': f"0+60x{DAYS}",
    FRESH: f"0+60x{DAYS}",
    EVENTS: f"0+60x{DAYS}",
    'engram_space_oldest_pending_seconds{space="a"}': f"2x{DAYS}",
    'engram_bulk_waiting_memories{space="a"}': f"0x{DAYS}",
    'engram_bulk_oldest_seconds{space="a"}': f"0x{DAYS}",
    'engram_embedded_vectors_total{space="a"}': f"0+60x{DAYS}",
    'engram_lane_oldest_seconds{lane="live",space="a"}': f"1x{DAYS}",
    "engram_outbox_oldest_seconds": f"0x{DAYS}",
    'engram_dead_letters_waiting{kind="embedding",class="rejected"}': f"3x{DAYS}",
    'engram_lane_paused{space="a"}': f"0x{DAYS}",
    'engram_provider_request_seconds_count{space="a",kind="document",outcome="auth"}': f"0x{DAYS}",
    'engram_stream_losses_total{kind="purged"}': f"0x{DAYS}",
    'engram_topology_repairs_total{kind="stream"}': f"0x{DAYS}",
    'engram_given_up_messages_total{kind="terminated",stream="ENGRAM_MEMORY"}': f"0x{DAYS}",
    'engram_reconcile_repairs_total{space="a",repair="due"}': f"4x{DAYS}",
    'engram_sweep_overdue_seconds{sweep="reconcile"}': f"1x{DAYS}",
    'engram_sweep_last_success_timestamp_seconds{sweep="reconcile"}': f"0+60x{DAYS}",
    'engram_sweep_interval_seconds{sweep="reconcile"}': f"300x{DAYS}",
    'engram_sweep_enabled{sweep="reconcile"}': f"1x{DAYS}",
    'engram_sweep_failed{sweep="reconcile"}': f"0x{DAYS}",
    "engram_dedup_capped_total": f"2x{DAYS}",
    'engram_dedup_recent_memories{outcome="merged"}': f"1000x{DAYS}",
    'engram_dedup_recent_memories{outcome="restored"}': f"4x{DAYS}",
    'engram_migration_phase{target="b",phase="backfill"}': f"1x{DAYS}",
    'engram_migration_paused{target="b"}': f"0x{DAYS}",
    'engram_migration_items{target="b",state="missing"}': f"50000-10x{DAYS}",
    'engram_migration_mismatches{target="b"}': f"0x{DAYS}",
    'engram_disk_free_bytes{disk="data"}': f"500x{DAYS}",
    'engram_disk_size_bytes{disk="data"}': f"1000x{DAYS}",
    'engram_stream_bytes{stream="ENGRAM_MEMORY"}': f"100x{DAYS}",
    'engram_stream_limit_bytes{stream="ENGRAM_MEMORY"}': f"1000x{DAYS}",
}


@dataclass(frozen=True)
class Case:
    """What differs from the healthy system, and when it is looked at.

    Attributes:
        fires: series with which the alert fires at ``at``; None takes one away.
        quiet: series with which it does not: near the limit, over too soon, or by design.
        labels: that the firing alert has.
        every: how often rules are evaluated; days of minutes take long.
    """

    fires: dict[str, str | None]
    quiet: dict[str, str | None]
    at: str
    labels: dict[str, str] = field(default_factory=dict)
    every: str = "1m"


def _late(per_minute: float, from_minute: int, until_minute: int = DAYS) -> dict[str, Any]:
    """Return events of which so many a minute, of 60, are late in a span of time."""
    fresh = 60 - per_minute
    until_minute = min(until_minute, DAYS)
    good = 60 * from_minute
    better = good + fresh * (until_minute - from_minute)
    parts = [f"0+60x{from_minute}", f"{good + fresh}+{fresh}x{until_minute - from_minute - 1}"]
    if until_minute < DAYS:
        parts.append(f"{better + 60}+60x{DAYS - until_minute}")
    return {FRESH: " ".join(parts)}


_AUTH = 'engram_provider_request_seconds_count{space="a",kind="document",outcome="auth"}'
_PENDING = 'engram_space_oldest_pending_seconds{space="a"}'
_BULK = 'engram_bulk_waiting_memories{space="a"}'

CASES: dict[str, Case] = {
    # A fifth is late: twenty times as fast as allowed. Quiet: so it was, and it is over.
    "EngramFreshnessBurnsFast": Case(_late(12, 60), _late(12, 60, 150), "160m"),
    "EngramFreshnessBurns": Case(_late(5, 60), _late(5, 60, 420), "480m"),
    "EngramFreshnessBurnsSlowly": Case(_late(1, 0), _late(0.5, 0), "72h", every="1h"),
    "EngramTextsWait": Case(
        {_PENDING: "0+60x60"},
        # As old, but a bulk queue is being worked off.
        {_PENDING: "0+60x60", _BULK: "500x60"},
        "40m",
        {"space": "a"},
    ),
    "EngramLaneStalled": Case(
        {'engram_lane_oldest_seconds{lane="live",space="a"}': "0+60x60"},
        {'engram_lane_oldest_seconds{lane="live",space="a"}': "290x60"},
        "20m",
        {"lane": "live", "space": "a"},
    ),
    "EngramBulkStalled": Case(
        {
            _BULK: "500x60",
            'engram_bulk_oldest_seconds{space="a"}': "0+60x60",
            'engram_embedded_vectors_total{space="a"}': "100x60",
        },
        # It waits as long, and is being worked off.
        {_BULK: "500x60", 'engram_bulk_oldest_seconds{space="a"}': "0+60x60"},
        "40m",
        {"space": "a"},
    ),
    "EngramOutboxStalled": Case(
        {"engram_outbox_oldest_seconds": "0+60x60"},
        {"engram_outbox_oldest_seconds": "0x10 60 120 180 0x40"},
        "14m",
    ),
    "EngramDeadLettersGrow": Case(
        {'engram_dead_letters_waiting{kind="ingest",class="invalid"}': "0x80 1x80"},
        # One kind was replayed while another came: there are not more of them.
        {
            'engram_dead_letters_waiting{kind="embedding",class="rejected"}': "3x80 1x80",
            'engram_dead_letters_waiting{kind="ingest",class="invalid"}': "0x80 1x80",
        },
        "100m",
    ),
    "EngramLanePausedByAuth": Case(
        {'engram_lane_paused{space="a"}': "0x10 1x60", _AUTH: "0x10 1+1x60"},
        {'engram_lane_paused{space="a"}': "0x10 1x60"},
        "15m",
        {"space": "a"},
    ),
    "EngramProviderDown": Case(
        {'engram_lane_paused{space="a"}': "0x10 1x60"},
        {'engram_lane_paused{space="a"}': "0x10 1x60", _AUTH: "0x10 1+1x60"},
        "30m",
        {"space": "a"},
    ),
    "EngramBrokerRepaired": Case(
        {'engram_topology_repairs_total{kind="stream"}': "0x10 1x60"},
        {'engram_topology_repairs_total{kind="stream"}': "0x10 1x60"},
        "12m",
    ),
    "EngramServiceMissing": Case(
        {'engram_build_info{process="embedder"}': "1x10 _x60"},
        {'engram_build_info{process="embedder"}': "1x10 _x6 1x60"},
        "25m",
        {"process": "embedder"},
    ),
    "EngramReconcileFindsWork": Case(
        {'engram_reconcile_repairs_total{space="a",repair="due"}': "4x40 9x60"},
        {'engram_reconcile_repairs_total{space="a",repair="due"}': "4 9x200"},
        "60m",
        {"space": "a"},
    ),
    "EngramSweepOverdue": Case(
        {'engram_sweep_last_success_timestamp_seconds{sweep="reconcile"}': "0x200"},
        {
            'engram_sweep_last_success_timestamp_seconds{sweep="reconcile"}': "0x200",
            'engram_sweep_enabled{sweep="reconcile"}': "0x200",
        },
        "60m",
        {"sweep": "reconcile"},
    ),
    "EngramSweepFails": Case(
        {'engram_sweep_failed{sweep="reconcile"}': "1x60"},
        {'engram_sweep_failed{sweep="reconcile"}': "1x20 0x1 1x60"},
        "40m",
        {"sweep": "reconcile"},
    ),
    "EngramMergeCapHit": Case(
        {"engram_dedup_capped_total": "2x30 3x90"},
        {"engram_dedup_capped_total": "2 3x120"},
        "70m",
    ),
    "EngramUndoRate": Case(
        {'engram_dedup_recent_memories{outcome="restored"}': "30x60"},
        # A large share of little: two of three.
        {
            'engram_dedup_recent_memories{outcome="merged"}': "3x60",
            'engram_dedup_recent_memories{outcome="restored"}': "2x60",
        },
        "30m",
    ),
    "EngramFiguresStale": Case(
        {'engram_stock_counted_timestamp_seconds{tier="quick"}': "0+60x10 600x60"},
        # Another curator took over after two minutes.
        {'engram_stock_counted_timestamp_seconds{tier="quick"}': "0+60x10 600x2 780+60x60"},
        "20m",
    ),
    "EngramMigrationMismatch": Case(
        {'engram_migration_mismatches{target="b"}': "7x60"},
        {'engram_migration_mismatches{target="b"}': "0x10 7x2 0x60"},
        "15m",
        {"target": "b"},
    ),
    "EngramMigrationStalled": Case(
        {'engram_migration_items{target="b",state="missing"}': "500x200"},
        {
            'engram_migration_items{target="b",state="missing"}': "500x200",
            'engram_migration_paused{target="b"}': "1x200",
        },
        "120m",
        {"target": "b"},
    ),
    "EngramDiskFills": Case(
        {'engram_disk_free_bytes{disk="data"}': "99x60"},
        {'engram_disk_free_bytes{disk="data"}': "101x60"},
        "20m",
        {"disk": "data"},
    ),
    "EngramDiskFillsSoon": Case(
        {'engram_disk_free_bytes{disk="data"}': "700-0.8x500"},
        {'engram_disk_free_bytes{disk="data"}': "400-0.05x500"},
        "480m",
        {"disk": "data"},
    ),
    "EngramStreamFills": Case(
        {'engram_stream_bytes{stream="ENGRAM_MEMORY"}': "810x60"},
        {'engram_stream_bytes{stream="ENGRAM_MEMORY"}': "790x60"},
        "20m",
        {"stream": "ENGRAM_MEMORY"},
    ),
}
# Repaired half an hour before: by now it is over.
QUIET_LATER = {"EngramBrokerRepaired": "40m"}
