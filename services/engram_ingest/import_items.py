"""Counts what became of items: in the report of an import, and in the metrics."""

from engram import metrics
from engram.domain.arrival import Arriving, Decision, Kind
from engram.importers.report import Outcome as Counted
from engram.importers.report import Report

COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
_COUNTED: dict[Kind, Counted] = {
    "absorb": "duplicates",
    "fold": "duplicates",
    "present": "duplicates",
    "clash": "duplicates",
    "keep": "duplicates",
    "deleted": "skipped",
    "update": "updated",
    "insert": "imported",
}


def count(report: Report, item: Arriving, decision: Decision) -> None:
    """Count what became of one item."""
    outcome = _COUNTED[decision.kind]
    state = (decision.changes or {}).get("state", item.memory.state)
    if outcome in ("imported", "updated") and state == "superseded":
        outcome = "superseded"
    elif decision.renames is not None and decision.renames.state != "deleted":
        outcome = "updated" if outcome == "imported" else outcome
    report.add(outcome, item.memory.namespace)


def is_elsewhere(decision: Decision) -> bool:
    """Say whether a replacement left an item where it is known, beyond what it replaces."""
    known = decision.target
    return decision.kind in ("present", "clash") and known is not None and not known.staged


def count_metrics(counts: dict[str, int], door: str) -> None:
    """Add the counts of a report to the metrics."""
    for outcome in COUNTS:
        if counts.get(outcome):
            metrics.INGESTED.labels(door, outcome).inc(counts[outcome])
