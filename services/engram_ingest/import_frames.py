"""What passes between ingest and the process that parses: frames of JSON, and chunks.

How a batch looks in them is the business of `engram_ingest.import_columns`.
"""

import struct
from dataclasses import asdict
from typing import Any, BinaryIO
from uuid import UUID

import orjson

from engram import errors
from engram.errors import EngramError
from engram_ingest.import_batches import Task
from engram_ingest.import_options import Options


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
