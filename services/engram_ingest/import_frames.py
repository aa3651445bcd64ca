"""What passes between ingest and the process that parses: frames of JSON, and chunks."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, BinaryIO
from uuid import UUID

import orjson

from engram import errors
from engram.domain.arrival import Arriving, Plan
from engram.domain.memory import NewMemory
from engram.errors import EngramError, Fault
from engram.importers.record import Found
from engram.storage.ids import to_id
from engram_ingest.import_batches import Batch, Task
from engram_ingest.import_options import Options

_NAMES = tuple(field.name for field in fields(NewMemory))
_VALUES = attrgetter(*_NAMES)
# Where a time or an id stands among the fields: JSON brings them as text.
_TIMES = tuple(
    _NAMES.index(name) for name in _NAMES if name.endswith("_at") or name == "valid_until"
)
_IDS = tuple(_NAMES.index(name) for name in ("id", "merged_into"))


def send(stream: BinaryIO, body: bytes) -> None:
    """Write one frame: a big-endian 4-byte length and that many bytes."""
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Read one frame.

    Raises:
        EOFError: the other end is gone.
    """
    header = stream.read(4)
    if len(header) < 4:
        raise EOFError
    (size,) = struct.unpack(">I", header)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return body


def of_task(task: Task, body_bytes: int) -> bytes:
    """Return a task as a frame."""
    # As text: the driver's own kind of UUID is none that orjson knows.
    ids = {"workspace": str(task.workspace), "job": str(task.job)}
    return orjson.dumps({**asdict(task), **ids, "body_bytes": body_bytes})


def to_task(frame: bytes) -> tuple[Task, int]:
    """Return a task and the size of its body."""
    said = orjson.loads(frame)
    options = Options(**said["options"])
    workspace, job = UUID(said["workspace"]), UUID(said["job"])
    return Task(workspace, job, said["position"], options, said["max_items"]), said["body_bytes"]


def of_batch(batch: Batch) -> dict[str, Any]:
    """Return a batch as JSON can hold it."""
    return {
        "after": batch.after,
        "read_bytes": batch.read_bytes,
        "refused": [(*_place(f), e.pointer, e.code, e.detail) for f, e in batch.refused],
        "taken": [
            (
                *_place(found),
                _VALUES(item.memory),
                str(item.id),
                item.fold.hex(),
                item.sha256.hex(),
                item.created_at,
                item.updated_at,
                list(item.given),
            )
            for found, item in batch.taken
        ],
    }


def _place(found: Found) -> tuple[int, int | None, str | None]:
    name = found.external_id
    # The name of a faulty item may be just what is wrong with it.
    return found.index, found.line, name and name.encode("utf-8", "replace").decode()


def to_batch(said: dict[str, Any], rebuild: Callable[[Sequence[Any]], Arriving]) -> Batch:
    """Return a batch; what was read of an item is left out, nobody asks for it any more."""
    batch = Batch(after=said["after"], read_bytes=said["read_bytes"])
    batch.refused = [
        (Found(index, line, None, None, name), Fault(pointer, code, detail))
        for index, line, name, pointer, code, detail in said["refused"]
    ]
    batch.taken = [
        (Found(row[0], row[1], None, None, row[2]), rebuild(row[3:])) for row in said["taken"]
    ]
    return batch


def rebuilding(task: Task, plan: Plan) -> Callable[[Sequence[Any]], Arriving]:
    """Return what makes an arriving memory again of its values."""
    workspace, strategy = task.workspace, task.options.strategy

    def rebuild(row: Sequence[Any]) -> Arriving:
        values, item_id, fold, sha256, created, updated, given = row
        return Arriving(
            workspace,
            to_id(item_id),
            _memory(values),
            bytes.fromhex(fold),
            bytes.fromhex(sha256),
            strategy,
            _time(created),
            _time(updated),
            frozenset(given),
            plan,
        )

    return rebuild


def _memory(values: list[Any]) -> NewMemory:
    for at in _TIMES:
        if values[at] is not None:
            values[at] = _time(values[at])
    for at in _IDS:
        if values[at] is not None:
            values[at] = to_id(values[at])
    return NewMemory(*values)


# Most items of a batch arrive at one moment, and a column of one object is written once.
@lru_cache(maxsize=64)
def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def of_error(error: EngramError) -> dict[str, Any]:
    """Return an error as JSON can hold it."""
    return {
        "class": type(error).__name__,
        "code": error.code,
        "detail": error.detail,
        "cure": error.cure,
    }


def to_error(problem: dict[str, Any]) -> EngramError:
    """Return an error again, of its class."""
    kind = getattr(errors, problem["class"], EngramError)
    error: EngramError = kind(problem["code"], problem["detail"], cure=problem["cure"])
    return error
