"""External ids and the memories they name: claimed for new rows, moved from tombstones."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from engram.domain.arrival import Arriving, Decided, ExternalKey, Known
from engram.storage import knowing
from engram.storage.columns import brief
from engram.storage.connection import Connection
from engram.storage.contention import LostRaceError
from engram.storage.queries import statement

_Named = tuple[UUID, str, str, UUID]


@dataclass(frozen=True, slots=True)
class Names:
    """What the external ids of a batch stand for.

    Attributes:
        claimed: names that were new, and belong to the rows of their items now.
        known: the memory behind each other one that has any.
    """

    claimed: frozenset[ExternalKey] = frozenset()
    known: Sequence[tuple[ExternalKey, Known]] = ()


async def claim(connection: Connection, items: Sequence[Arriving]) -> Names:
    """Claim the new names of a batch, and look up the others.

    The index that keeps names unique says which are new: asking first and naming afterwards would
    look for each twice. Who claims the same name meanwhile waits for this transaction to end.
    """
    first: dict[ExternalKey, Arriving] = {}
    for item in items:
        if key := item.external_key:
            first.setdefault(key, item)
    if not first:
        return Names()
    sure = {key: item.id for key, item in first.items() if _is_sure(item)}
    all_new = await _insert(connection, [(*key, own) for key, own in sure.items()])
    if all_new and len(sure) == len(first):
        return Names(frozenset(sure))
    asked = [item for item in items if not all_new or item.external_key not in sure]
    known = await knowing.by_external_id(connection, asked)
    return Names(frozenset(sure.keys() - {key for key, _ in known}), known)


def _is_sure(item: Arriving) -> bool:
    # Under a new name it becomes a row with its own id, whatever else is decided. A merge mostly
    # finds what it names, and a record of another engram may be here under its id.
    memory = item.memory
    foreign = memory.id is not None or memory.merged_into is not None
    return item.strategy in ("create", "skip") and not foreign


async def name_rest(
    connection: Connection, new: Sequence[Decided], claimed: frozenset[ExternalKey]
) -> None:
    """Name what is new and has no name yet.

    Raises:
        LostRaceError: somebody else has just given one of these names.
    """
    if sum(1 for (item, _), _ in new if item.memory.external_id is not None) == len(claimed):
        return  # most batches: the names claimed are all there are
    named = [
        (*key, item.id)
        for (item, _), decision in new
        if (key := item.external_key) is not None
        and key not in claimed
        and decision.renames is None
    ]
    if not await _insert(connection, named):
        raise LostRaceError


async def _insert(connection: Connection, named: Sequence[_Named]) -> bool:
    """Insert names in their order, and say whether all of them were new."""
    if not named:
        return True
    workspaces, sources, *others = zip(*sorted(named), strict=True)
    alike = brief(workspaces, filled=True), brief(sources, filled=True)
    done = await connection.execute(statement("write", "insert_aliases"), *alike, *others)
    # Its tag says how many: "INSERT 0 1000".
    return int(done.split()[-1]) == len(named)


async def move(connection: Connection, new: Sequence[Decided]) -> None:
    """Give a new row the name of the tombstone that it revives.

    Raises:
        LostRaceError: the name belongs to another memory by now.
    """
    moved = sorted(
        (*key, decision.renames.id, item.id)
        for (item, _), decision in new
        if decision.renames is not None and (key := item.external_key) is not None
    )
    if not moved:
        return
    found = await connection.fetch(
        statement("write", "move_aliases"), *map(list, zip(*moved, strict=True))
    )
    if len(found) < len(moved):
        raise LostRaceError
