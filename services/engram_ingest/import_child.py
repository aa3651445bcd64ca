"""The process that parses one import: asks for chunks of the body, answers batches of memories.

It is given no settings, keys or passwords: what it reads was written by strangers. It ends when its
pipe does, and so it cannot outlive its parent.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, cast
from uuid import UUID

import orjson
from uuid_utils import uuid7

from engram.errors import EngramError
from engram_ingest.import_batches import Reader
from engram_ingest.import_body import BodyFile
from engram_ingest.import_columns import of_batch
from engram_ingest.import_frames import of_error, receive, send, to_task

_NICENESS = 10


class _PipeFile(BodyFile):
    """The body, asked for at the other end of the pipe."""

    def __init__(self, body_bytes: int, questions: BinaryIO, answers: BinaryIO) -> None:
        super().__init__(body_bytes)
        self._questions = questions
        self._answers = answers

    def chunk(self, part: int) -> bytes:
        send(self._questions, orjson.dumps({"chunk": part}))
        return receive(self._answers)


def main() -> None:
    """Parse the one body that is asked for."""
    # Ctrl-C reaches the whole process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Requests and Postgres go first wherever cores are few; alone it is as fast.
    os.nice(_NICENESS)
    # As in a service: many objects and no cycles. Python's default costs a third of the parsing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    said, heard = _claim_stdout(), sys.stdin.buffer
    try:
        task, body_bytes = to_task(receive(heard))
        # Ids pass the pipe as text; the driver, whose kind they become, takes long to load.
        new_id = cast("Callable[[], UUID]", uuid7)
        reader = Reader(_PipeFile(body_bytes, said, heard), task, new_id)
        _parse(reader, said)
    except (EOFError, BrokenPipeError):
        os._exit(1)  # the parent is gone; there is nobody to flush anything to


def _parse(reader: Reader, said: BinaryIO) -> None:
    end: dict[str, Any] = {}
    try:
        for batch in reader.batches():
            send(said, orjson.dumps({"batch": of_batch(batch), **_about(reader)}))
    except EngramError as error:
        end["error"] = of_error(error)
    send(said, orjson.dumps({"end": end, "warnings": reader.warnings, **_about(reader)}))


def _about(reader: Reader) -> dict[str, Any]:
    return {"format": reader.format, "source": reader.source}


def _claim_stdout() -> BinaryIO:
    """Keep the pipe for answers, and send whatever a library prints to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
