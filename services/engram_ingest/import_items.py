"""From an element of a file to an arriving memory, and from what became of it to a report."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from engram import metrics
from engram.domain.arrival import Arriving, Decision, Kind, Plan, arriving
from engram.domain.memory import NewMemory, decode_item
from engram.domain.revising import REVISED
from engram.errors import Fault, InvalidError
from engram.importers.record import Found
from engram.importers.report import Outcome as Counted
from engram.importers.report import Report
from engram_ingest.import_options import Options

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
_GIVEN = frozenset((*REVISED, "updated_at"))
Arrive = Callable[[Found], Arriving | Fault]


def arrive(workspace: UUID, options: Options, plan: Plan) -> Arrive:
    """Return what turns an element into an arriving memory, or says why it cannot."""
    now = datetime.now(UTC)
    compares = options.strategy != "skip"

    def one(found: Found) -> Arriving | Fault:
        item = found.item
        if item is None:
            return found.fault or Fault("", "unreadable", "cannot be read")
        try:
            memory = _decoded(found, options)
        except InvalidError as error:
            return error.faults[0]
        given = _given(item) if compares else frozenset()
        return arriving(workspace, uuid7(), memory, options.strategy, now, given, plan)

    return one


def _decoded(found: Found, options: Options) -> NewMemory:
    item = found.item or {}
    # A record of another engram without an external id is known by its id.
    if item.get("external_id") is None and item.get("id") is None:
        item = {**item, "external_id": found.external_id}
    if options.namespace is not None:
        item = {**item, "namespace": options.namespace}
    return decode_item(item, imported=True)


def _given(item: dict[str, object]) -> frozenset[str]:
    return frozenset(name for name in _GIVEN if item.get(name) is not None)


def count(report: Report, item: Arriving, decision: Decision) -> None:
    """Count what became of one item."""
    outcome = _COUNTED[decision.kind]
    state = (decision.changes or {}).get("state", item.memory.state)
    if outcome in ("imported", "updated") and state == "superseded":
        outcome = "superseded"
    elif decision.renames is not None and decision.renames.state != "deleted":
        outcome = "updated" if outcome == "imported" else outcome
    report.add(outcome, item.memory.namespace)


def count_metrics(counts: dict[str, int], door: str) -> None:
    """Add the counts of a report to the metrics."""
    for outcome in COUNTS:
        if counts.get(outcome):
            metrics.INGESTED.labels(door, outcome).inc(counts[outcome])
