"""A batch of memories as columns of JSON, on its way from the process that parses to ingest.

What is the same in all rows of a column is said once. Most fields of most imports are, and so both
ends work for what differs alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from operator import attrgetter
from typing import Any

from engram.domain.arrival import Arriving, Plan
from engram.domain.memory import NewMemory
from engram.errors import Fault
from engram.importers.record import Found
from engram_ingest.import_batches import Batch, Task

_NAMES = tuple(field.name for field in fields(NewMemory))
_VALUES = attrgetter(*_NAMES)
_TIMES = frozenset(name for name in _NAMES if name.endswith("_at")) | {"valid_until"}
_IDS = frozenset(("id", "merged_into"))
_FOLD_BYTES = 16

Column = Iterable[Any]


def of_batch(batch: Batch) -> dict[str, Any]:
    """Return a batch as JSON can hold it."""
    rows = [
        (
            *_place(found),
            *_VALUES(item.memory),
            str(item.id),
            item.sha256.hex(),
            None if item.sha256.startswith(item.fold) else item.fold.hex(),
            item.created_at,
            item.updated_at,
            list(item.given),
        )
        for found, item in batch.taken
    ]
    return {
        "after": batch.after,
        "read_bytes": batch.read_bytes,
        "refused": [(*_place(f), e.pointer, e.code, e.detail) for f, e in batch.refused],
        "count": len(rows),
        "taken": [_short(column) for column in zip(*rows, strict=True)],
    }


def _place(found: Found) -> tuple[int, int | None, str | None]:
    name = found.external_id
    # The name of a faulty item may be just what is wrong with it.
    return found.index, found.line, name and name.encode("utf-8", "replace").decode()


def _short(column: Sequence[Any]) -> Sequence[Any]:
    first = column[0]
    # Objects that Python calls equal need not be: {"a": 1} is {"a": true} to it.
    if first != column[-1] or (isinstance(first, dict) and any(column)):
        return column
    return column[:1] if column.count(first) == len(column) else column


def to_batch(said: dict[str, Any], task: Task, plan: Plan, to_id: Callable[[str], Any]) -> Batch:
    """Return a batch; what was read of an item is left out, nobody asks for it any more.

    Args:
        said: what `of_batch` returned.
        task: the reading that it is of.
        plan: how its items are meant.
        to_id: makes an id of its text; given, because the process that parses reads this file, too,
            and does without the driver whose ids they are.
    """
    batch = Batch(after=said["after"], read_bytes=said["read_bytes"])
    batch.refused = [
        (Found(index, line, None, None, name), Fault(pointer, code, detail))
        for index, line, name, pointer, code, detail in said["refused"]
    ]
    if said["count"]:
        batch.taken = _taken(said["taken"], said["count"], task, plan, to_id)
    return batch


def _taken(
    columns: Sequence[Sequence[Any]],
    count: int,
    task: Task,
    plan: Plan,
    to_id: Callable[[str], Any],
) -> list[tuple[Found, Arriving]]:
    def full(column: Sequence[Any], to: Callable[[Any], Any] | None = None) -> Column:
        if to is not None:
            column = [None if value is None else to(value) for value in column]
        return repeat(column[0], count) if len(column) == 1 else column

    index, line, name, *values = columns[: 3 + len(_NAMES)]
    ids, sha256s, folds, created, updated, given = columns[3 + len(_NAMES) :]
    said = dict(zip(_NAMES, values, strict=True))
    to: dict[str, Callable[[str], Any]] = dict.fromkeys(_TIMES, _time)
    to.update(dict.fromkeys(_IDS, to_id))
    memories = map(NewMemory, *(full(said[field], to.get(field)) for field in _NAMES))
    hashes = [bytes.fromhex(one) for one in full(sha256s)]
    items = map(
        Arriving,
        repeat(task.workspace),
        full(ids, to_id),
        memories,
        map(_fold, full(folds), hashes),
        hashes,
        repeat(task.options.strategy),
        full(created, _time),
        full(updated, _time),
        full(given, frozenset),
        repeat(plan),
    )
    founds = map(Found, full(index), full(line), repeat(None), repeat(None), full(name))
    return list(zip(founds, items, strict=True))


def _fold(said: str | None, sha256: bytes) -> bytes:
    return sha256[:_FOLD_BYTES] if said is None else bytes.fromhex(said)


# Times of one batch are often alike, and a column of one object is written once.
@lru_cache(maxsize=64)
def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
