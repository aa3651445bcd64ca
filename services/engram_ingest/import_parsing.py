"""The parent's end of the process that parses: answers its questions, takes its batches."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO, Protocol

import orjson

from engram.storage.ids import new_id, to_id
from engram_ingest.import_batches import Batch, Reader, Task
from engram_ingest.import_columns import to_batch
from engram_ingest.import_file import ChunkFile
from engram_ingest.import_frames import of_task, receive, send, to_error

_CHILD = "engram_ingest.import_child"
# Starting a process takes as long as reading about this much.
_WORTH_A_PROCESS_BYTES = 1_000_000


class Parsing(Protocol):
    """Reads a job in batches, in whatever process; its methods block and belong in a thread.

    Attributes:
        format: name of the format, None until it was detected.
        source: the source whose memories the format's rows become.
        warnings: what is worth knowing about the file; complete once it was read.
    """

    @property
    def format(self) -> str | None: ...  # noqa: D102 - see the class

    @property
    def source(self) -> str | None: ...  # noqa: D102 - see the class

    @property
    def warnings(self) -> list[str]: ...  # noqa: D102 - see the class

    def batches(self) -> Generator[Batch, None, None]:
        """Yield what follows the job's position."""
        ...


def parsing(file: ChunkFile, task: Task) -> Parsing:
    """Return what reads a job: a process of its own when there is enough to read."""
    if file.body_bytes < _WORTH_A_PROCESS_BYTES:
        return Reader(file, task, new_id)
    return ParsingProcess(file, task)


class ParsingProcess:
    """Reads a job in a process of its own: it takes another core, and no turn of the loop waits.

    Args:
        file: the body.
        task: what is wanted of it.
    """

    def __init__(self, file: ChunkFile, task: Task) -> None:
        self._file = file
        self._task = task
        self.format: str | None = None
        self.source: str | None = None
        self.warnings: list[str] = []

    def batches(self) -> Generator[Batch, None, None]:
        """Yield what follows the job's position.

        Raises:
            EngramError: the body cannot be read, or no further; what came before was yielded.
            StoppedError: the job is not wanted any more.
            EOFError: the process died.
        """
        with _started() as (asked, told):
            send(asked, of_task(self._task, self._file.body_bytes))
            while True:
                said = orjson.loads(receive(told))
                if "chunk" in said:
                    send(asked, self._file.chunk(said["chunk"]))
                    continue
                self.format, self.source = said["format"], said["source"]
                if "end" in said:
                    break
                yield self._batch(said["batch"])
            self.warnings = said["warnings"]
            if "error" in said["end"]:
                raise to_error(said["end"]["error"])

    def _batch(self, said: dict[str, Any]) -> Batch:
        plan = self._task.options.plan(self._task.job, self.source)
        return to_batch(said, self._task, plan, to_id)


@contextlib.contextmanager
def _started() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Run the process while inside; it is killed on leaving: nothing it has is wanted then."""
    child = subprocess.Popen(  # noqa: S603 - arguments are ours
        [sys.executable, "-m", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
    )
    try:
        if child.stdin is None or child.stdout is None:  # pragma: no cover - both were asked for
            raise EOFError
        yield child.stdin, child.stdout  # type: ignore[misc]  # buffered binary streams
    finally:
        child.kill()
        with contextlib.suppress(OSError):
            child.communicate()


def _environment() -> dict[str, str]:
    withheld = ("ENGRAM_", "VOYAGE_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(withheld)}
    # glibc's own default, but said: what is not said it raises once it has seen large buffers, and
    # then keeps them, with holes of some MB between what stays.
    return {**kept, "MALLOC_MMAP_THRESHOLD_": "131072"}
