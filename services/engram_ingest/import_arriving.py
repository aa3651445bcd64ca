"""From an element of a file to an arriving memory."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from engram.domain.arrival import Arriving, Plan, arriving
from engram.domain.memory import NewMemory, decode_item
from engram.domain.revising import REVISED
from engram.errors import Fault, InvalidError
from engram.importers.record import Found
from engram_ingest.import_options import Options

_GIVEN = frozenset((*REVISED, "updated_at"))
Arrive = Callable[[Found], Arriving | Fault]


def arrive(workspace: UUID, options: Options, plan: Plan, new_id: Callable[[], UUID]) -> Arrive:
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
        return arriving(workspace, new_id(), memory, options.strategy, now, given, plan)

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
