"""Counts what became of items: in the report of an import, and in the metrics."""

from collections import Counter
from collections.abc import Iterable, Sequence

from engram import metrics
from engram.domain.arrival import Arriving, Decision, Kind
from engram.errors import Fault
from engram.importers.record import Found
from engram.importers.report import Outcome as Counted
from engram.importers.report import Report
from engram.storage.writing import Outcome

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


def count(
    report: Report, taken: Iterable[tuple[Found, Arriving]], outcomes: Sequence[Outcome]
) -> list[tuple[Found, Fault]]:
    """Count what became of items, and return those that the store refused."""
    told: Counter[tuple[Counted, str]] = Counter()
    refused: list[tuple[Found, Fault]] = []
    for (found, item), outcome in zip(taken, outcomes, strict=True):
        if outcome.decision is None:
            fault = outcome.refusal or Fault("", "refused_by_store", "was refused")
            refused.append((found, fault))
            report.fail(found, fault)
        else:
            told[_counted(item, outcome.decision), item.memory.namespace] += 1
    for (counted, namespace), number in told.items():
        report.add(counted, namespace, number)
    return refused


def _counted(item: Arriving, decision: Decision) -> Counted:
    counted = _COUNTED[decision.kind]
    state = item.memory.state
    if decision.changes:
        state = decision.changes.get("state", state)
    if state == "superseded" and counted in ("imported", "updated"):
        return "superseded"
    if decision.renames is not None and decision.renames.state != "deleted":
        return "updated" if counted == "imported" else counted
    return counted


def is_elsewhere(decision: Decision) -> bool:
    """Say whether a replacement left an item where it is known, beyond what it replaces."""
    known = decision.target
    return decision.kind in ("present", "clash") and known is not None and not known.staged


def count_metrics(counts: dict[str, int], door: str) -> None:
    """Add the counts of a report to the metrics."""
    for outcome in COUNTS:
        if counts.get(outcome):
            metrics.INGESTED.labels(door, outcome).inc(counts[outcome])
