"""Reads a job's body into batches of arriving memories: parsing, away from the event loop."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from uuid import UUID

from engram.domain.arrival import Arriving
from engram.errors import EngramError, Fault, TooLargeError
from engram.importers.reading import Import, read
from engram.importers.record import Found
from engram_ingest.import_arriving import Arrive, arrive
from engram_ingest.import_body import BodyFile, buffered
from engram_ingest.import_options import Options

MAX_ITEMS = 2_000
# The first batch is shorter: until it is read, nothing is written.
FIRST_ITEMS = 500
# Of content and metadata: what a batch takes in memory, at both ends of the pipe, is bounded too.
_MAX_CHARACTERS = 2_000_000


@dataclass(slots=True)
class Batch:
    """Items to be stored in one transaction.

    Attributes:
        taken: what may be stored; ``refused`` what cannot be read, with the reason.
        after: index of the item that follows.
        read_bytes: how far the body was read.
    """

    taken: list[tuple[Found, Arriving]] = field(default_factory=list)
    refused: list[tuple[Found, Fault]] = field(default_factory=list)
    after: int = 0
    read_bytes: int = 0
    characters: int = 0

    def __len__(self) -> int:
        return len(self.taken) + len(self.refused)

    def add(self, found: Found, item: Arriving | Fault) -> None:
        """Take one more item."""
        if isinstance(item, Fault):
            self.refused.append((found, item))
        else:
            self.taken.append((found, item))
            self.characters += _size(item)
        self.after = found.index + 1

    def split(self, count: int) -> tuple["Batch", "Batch"]:
        """Return the first ``count`` items and the rest, which is not empty.

        How far the body was read is told with the rest alone: the first part begins in it.
        """
        indexes = sorted(found.index for found, _ in (*self.taken, *self.refused))
        border = indexes[count]
        first = Batch(after=border)
        rest = Batch(after=self.after, read_bytes=self.read_bytes, characters=self.characters)
        for taken in self.taken:
            (first if taken[0].index < border else rest).taken.append(taken)
        for refused in self.refused:
            (first if refused[0].index < border else rest).refused.append(refused)
        return first, rest

    def full(self, most: int) -> bool:
        """Say whether it is time to write: it holds ``most`` items, or much text."""
        return len(self) >= most or self.characters >= _MAX_CHARACTERS


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be read.

    Attributes:
        job: the import it belongs to.
        position: index of the first item that is wanted.
        max_items: more items than that end the job.
    """

    workspace: UUID
    job: UUID
    position: int
    options: Options
    max_items: int


class Reader:
    """Reads one job from where it stands; its methods block and belong in a thread.

    Args:
        file: the body.
        task: what is wanted of it.
        new_id: makes the ids of its memories.
    """

    def __init__(self, file: BodyFile, task: Task, new_id: Callable[[], UUID]) -> None:
        self._file = file
        self._task = task
        self._new_id = new_id
        self._reading: Import | None = None

    @property
    def format(self) -> str | None:
        """Name of the format, None until it was detected."""
        return self._reading.format if self._reading else None

    @property
    def source(self) -> str | None:
        """The source whose memories the format's rows become."""
        return self._reading.source if self._reading else None

    @property
    def warnings(self) -> list[str]:
        """What is worth knowing about the file; complete once it was read."""
        return self._reading.warnings if self._reading else []

    def batches(self) -> Generator[Batch, None, None]:
        """Yield what follows the job's position.

        Items before it are read again, not stored again: ids made from repeats need them.

        Raises:
            EngramError: the body cannot be read, or no further; what came before was yielded.
        """
        options = self._task.options
        self._reading = read(
            buffered(self._file),
            format=options.format,
            filename=options.filename,
            placed=options.namespace is not None,
        )
        plan = options.plan(self._task.job, self.source)
        take = arrive(self._task.workspace, options, plan, self._new_id)
        batch, most, failure = Batch(), FIRST_ITEMS, None
        founds = iter(self._reading)
        while True:
            try:
                found = next(founds, None)
                if found is None:
                    break
                self._take(batch, found, take)
            except EngramError as error:
                failure = error
                break
            if batch.full(most):
                yield self._marked(batch)
                batch, most = Batch(), MAX_ITEMS
        if batch:
            yield self._marked(batch)
        if failure is not None:
            raise failure

    def _take(self, batch: Batch, found: Found, take: Arrive) -> None:
        if found.index >= self._task.max_items:
            raise _too_many(self._task.max_items)
        if found.index >= self._task.position:
            batch.add(found, take(found))

    def _marked(self, batch: Batch) -> Batch:
        batch.read_bytes = min(self._file.tell(), self._file.body_bytes)
        return batch


def _size(item: Arriving) -> int:
    # Roughly, but never much too little: what lies deeper in metadata is counted by its text only.
    memory = item.memory
    return len(memory.content) + (len(str(memory.metadata)) if memory.metadata else 0)


def _too_many(most: int) -> TooLargeError:
    return TooLargeError(
        "too_many_items",
        f"The file holds more than {most:,} items; the import ended there.",
        cure="Split the file, or raise ENGRAM_IMPORT_MAX_ITEMS; what was stored is recognised.",
    )
