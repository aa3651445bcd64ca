"""Puts readings into the gauges of stock, without a pause that a scrape could fall into."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from engram import metrics
from engram.broker.standing import LaneStanding, StreamStanding
from engram.domain.retry import ErrorClass
from engram.storage.stock import Counted, Quick

PHASES = ("planned", "dual_write", "backfill", "verified", "cut_over", "released", "aborted")
STATES = ("staged", "active", "superseded", "merged", "archived", "deleted")
CLASSES: tuple[str, ...] = get_args(ErrorClass)


def show_reading(tier: str, took_s: float) -> None:
    """Show when a tier was read, and how long that took."""
    metrics.STOCK_COUNTED.labels(tier).set(time.time())
    metrics.STOCK_SECONDS.labels(tier).set(took_s)


def show_quick(quick: Quick, keys: Mapping[int, str]) -> None:
    """Show queues, sweeps, sizes and the migration.

    Args:
        quick: as read.
        keys: the public name of every space, by id.
    """
    metrics.OUTBOX_LINES.set(quick.outbox[0])
    metrics.OUTBOX_AGE.set(quick.outbox[1])
    metrics.DECAY_WITHHELD.set(quick.withheld_s)
    metrics.DEDUP_UNCALIBRATED.set(quick.uncalibrated)
    metrics.DATABASE_BYTES.set(quick.database_bytes)
    for gauge, names, values in (
        (metrics.DEDUP_RECENT, ("merged", "restored"), quick.runs),
        (metrics.FINDINGS, ("proposal", "conflict"), quick.findings),
    ):
        for name, value in zip(names, values, strict=True):
            gauge.labels(name).set(value)
    _bulk(quick, keys)
    _sweeps(quick)
    _tables(quick, keys)
    _migration(quick.migration)


def _bulk(quick: Quick, keys: Mapping[int, str]) -> None:
    metrics.BULK_WAITING.clear()
    metrics.BULK_AGE.clear()
    waiting = {row["space"]: (row["memories"], row["oldest_s"]) for row in quick.bulk}
    for space, key in keys.items():
        memories, oldest_s = waiting.get(space, (0, 0.0))
        metrics.BULK_WAITING.labels(key).set(memories)
        metrics.BULK_AGE.labels(key).set(oldest_s)


def _sweeps(quick: Quick) -> None:
    for row in quick.sweeps:
        name, failed = row["name"], row["last_error"] is not None
        metrics.SWEEP_ENABLED.labels(name).set(row["enabled"])
        metrics.SWEEP_EVERY.labels(name).set(row["every_s"])
        metrics.SWEEP_OVERDUE.labels(name).set(row["overdue_s"])
        metrics.SWEEP_FAILED.labels(name).set(failed)
        # While runs fail the last good one stays as it was seen.
        if row["finished_s"] is not None and not failed:
            metrics.SWEEP_SUCCESS.labels(name).set(row["finished_s"])


def _tables(quick: Quick, keys: Mapping[int, str]) -> None:
    spaces = {f"vec.space_{space}": key for space, key in keys.items()}
    columns = (
        (metrics.TABLE_BYTES, "table_bytes"),
        (metrics.INDEX_BYTES, "index_bytes"),
        (metrics.TABLE_LIVE, "live"),
        (metrics.TABLE_DEAD, "dead"),
    )
    for gauge, column in columns:
        gauge.clear()
        for row in quick.tables:
            gauge.labels(spaces.get(row["name"], row["name"])).set(row[column])


def _migration(row: Any) -> None:
    for gauge in (
        *(metrics.MIGRATION_PHASE, metrics.MIGRATION_PAUSED, metrics.MIGRATION_ITEMS),
        *(metrics.MIGRATION_MISMATCHES, metrics.MIGRATION_OVERLAP),
    ):
        gauge.clear()
    if row is None:
        return
    target = row["target_key"]
    for phase in PHASES:
        metrics.MIGRATION_PHASE.labels(target, phase).set(phase == row["phase"])
    metrics.MIGRATION_PAUSED.labels(target).set(row["paused"])
    if row["rows"] is not None and row["missing"] is not None:
        metrics.MIGRATION_ITEMS.labels(target, "done").set(row["rows"] - row["missing"])
        metrics.MIGRATION_ITEMS.labels(target, "missing").set(row["missing"])
    for gauge, column in (
        (metrics.MIGRATION_MISMATCHES, "mismatches"),
        (metrics.MIGRATION_OVERLAP, "overlap"),
    ):
        if row[column] is not None:
            gauge.labels(target).set(row[column])


def show_broker(
    streams: Iterable[StreamStanding], lanes: Iterable[tuple[str, str, LaneStanding]]
) -> None:
    """Show streams, and durables with the lane and the space of each."""
    for gauge in (
        *(metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT),
        *(metrics.LANE_PENDING, metrics.LANE_ACK_PENDING, metrics.LANE_REDELIVERED),
        metrics.LANE_AGE,
    ):
        gauge.clear()
    for stream in streams:
        metrics.STREAM_MESSAGES.labels(stream.name).set(stream.messages)
        metrics.STREAM_BYTES.labels(stream.name).set(stream.bytes)
        metrics.STREAM_LIMIT.labels(stream.name).set(stream.limit_bytes)
    for lane, space, standing in lanes:
        metrics.LANE_PENDING.labels(lane, space).set(standing.pending)
        metrics.LANE_ACK_PENDING.labels(lane, space).set(standing.ack_pending)
        metrics.LANE_REDELIVERED.labels(lane, space).set(standing.redelivered)
        metrics.LANE_AGE.labels(lane, space).set(standing.oldest_s)


def show_disk(disk: tuple[int, int] | None) -> None:
    """Show free and all bytes of the data directory's disk, if it is known."""
    if disk is not None:
        metrics.DISK_FREE.labels("data").set(disk[0])
        metrics.DISK_SIZE.labels("data").set(disk[1])


def show_counted(counted: Counted, keys: Mapping[int, str]) -> None:
    """Show exact counts.

    Args:
        counted: as read.
        keys: the public name of each space that was counted, by id.
    """
    memories = dict.fromkeys(STATES, 0) | {r["state"]: r["memories"] for r in counted.memories}
    for state, number in memories.items():
        metrics.MEMORIES.labels(state).set(number)
    for gauge in (metrics.SPACE_MEMORIES, metrics.SPACE_DIFFERENCES, metrics.SPACE_OLDEST):
        gauge.clear()
    for space, row in counted.spaces.items():
        for state in ("current", "pending", "dead"):
            metrics.SPACE_MEMORIES.labels(keys[space], state).set(row[state])
        for kind in ("missing", "stale", "orphan"):
            metrics.SPACE_DIFFERENCES.labels(keys[space], kind).set(row[kind])
        metrics.SPACE_OLDEST.labels(keys[space]).set(row["oldest_s"])
    _failures(counted, keys)


def _failures(counted: Counted, keys: Mapping[int, str]) -> None:
    metrics.FAILING.clear()
    metrics.DEAD.clear()
    # Each class from the start, at nought: a series that begins at one has not grown, it is new.
    for name in CLASSES:
        metrics.DEAD.labels("embedding", name).set(0)
        for key in keys.values():
            metrics.FAILING.labels(key, name).set(0)
    for row in counted.failures:
        if row["dead"]:
            metrics.DEAD.labels("embedding", row["class"]).inc(row["memories"])
        elif row["space"] in keys:
            metrics.FAILING.labels(keys[row["space"]], row["class"]).set(row["memories"])
    for row in counted.letters:
        metrics.DEAD.labels(row["kind"], row["class"]).set(row["letters"])
