"""Stores a batch of items inside a transaction: looks up, decides, writes in the order of locks."""

from collections.abc import Container, Sequence
from datetime import datetime
from uuid import UUID

from engram.domain.arrival import Arrivals, Arriving, Decided, Decision, decide_all
from engram.storage import knowing, naming
from engram.storage.connection import Connection
from engram.storage.contention import LostRaceError
from engram.storage.inserting import insert_all
from engram.storage.queries import statement
from engram.storage.staging import stage_all
from engram.storage.updating import update_all

_Repeat = tuple[UUID, UUID, int, datetime | None]


async def store_all(
    connection: Connection, pairs: Sequence[tuple[Arriving, str]], now: datetime
) -> list[Decision]:
    """Store items, each with who brings it, and return what became of each.

    Args:
        connection: in a transaction that holds the namespaces of the items.
        pairs: of an import that replaces: its items alone.
        now: the moment of writing.

    Raises:
        LostRaceError: what was decided on changed meanwhile; decide again.
    """
    items = [item for item, _ in pairs]
    job = items[0].plan.job
    if items[0].strategy == "replace" and job is not None:
        return await stage_all(connection, pairs, job, now)
    names = await naming.claim(connection, items)
    arrivals = Arrivals(
        names.known,
        await knowing.by_fold(connection, items, now),
        now,
        await knowing.by_id(connection, items),
    )
    decisions = decide_all(items, arrivals)
    decided = list(zip(pairs, decisions, strict=True))
    # What is new touches nothing that is there.
    old = [entry for entry in decided if entry[1].kind != "insert"]
    own = {item.id for item in items} if old else set()
    await _repeat(connection, _repeats(old, but_of=own), now)
    await _hold(connection, old, own)
    await insert_all(connection, decided, now, names.claimed)
    # A repeat of the same batch can only lengthen a life; without a TTL there is nothing to do.
    brief = {item.id for item in items if item.memory.expires_at is not None} if old else set()
    await _repeat(connection, _repeats(old, of=brief), now)
    await update_all(connection, old, now)
    return decisions


def _repeats(
    decided: Sequence[Decided],
    *,
    of: Container[UUID] | None = None,
    but_of: Container[UUID] = (),
) -> list[_Repeat]:
    return [
        (item.workspace, target.id, target.version, item.memory.expires_at)
        for (item, _), decision in decided
        if decision.kind in ("fold", "absorb")
        and item.memory.merged_into is None  # it repeats nothing: it says what was merged before
        and (target := decision.target) is not None
        and (of is None or target.id in of)
        and target.id not in but_of
    ]


async def _repeat(connection: Connection, repeats: Sequence[_Repeat], now: datetime) -> None:
    if not repeats:
        return
    found = await connection.fetch(
        statement("write", "repeat_memories"), *map(list, zip(*repeats, strict=True)), now
    )
    if len(found) < len({(workspace, target) for workspace, target, _, _ in repeats}):
        raise LostRaceError


async def _hold(connection: Connection, decided: Sequence[Decided], own: Container[UUID]) -> None:
    shown = {
        (item.workspace, target.id)
        for (item, _), decision in decided
        if decision.kind == "present"
        and item.strategy == "create"
        and (target := decision.target) is not None
        and target.id not in own
    }
    if not shown:
        return
    columns = [workspace for workspace, _ in shown], [memory_id for _, memory_id in shown]
    if len(await connection.fetch(statement("write", "hold_memories"), *columns)) < len(shown):
        raise LostRaceError
