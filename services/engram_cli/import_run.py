"""Streams export files to the server: read here, sent in batches, several in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from engram.client.imports import COUNTS, Batch, Position, Tally, batches
from engram.errors import EngramError
from engram.importers.report import Report as LocalReport
from engram_cli.embedded_wait import wait_until_embedded

if TYPE_CHECKING:
    from engram.client import AsyncClient, Report
    from engram.client.types import ImportOptions
    from engram.importers.record import Found

IN_FLIGHT: Final = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is; what the bar shows.

    Attributes:
        read: items read from the files so far.
        answered: items the server has answered for.
        stored: items that are stored because of it: imported or updated.
        read_bytes: bytes read of all files.
        embedded: memories of the workspace with a vector; ``None`` while that is not waited for.
        to_embed: memories of the workspace that get one.
    """

    read: int = 0
    answered: int = 0
    stored: int = 0
    read_bytes: int = 0
    embedded: int | None = None
    to_embed: int = 0


@dataclass(slots=True)
class ImportRun:
    """One ``engram import``: files in, one report out.

    Attributes:
        client: talks to the server.
        options: strategy, dry run and namespace, the same for every batch.
        format: name of the files' format, when it shall not be detected.
        on_progress: called after every batch.
    """

    client: AsyncClient
    options: ImportOptions
    format: str | None
    on_progress: Callable[[Progress], None]
    _read: int = 0
    _done_bytes: int = 0
    _tallies: list[Tally] = field(default_factory=list)

    async def run(self, files: Sequence[tuple[str, BinaryIO]], *, wait: bool) -> dict[str, Any]:
        """Import the files one after another and return their report.

        Raises:
            EngramError: the server cannot be reached any more, or a file cannot be read; what was
                stored until then stays, and the same import can be run again.
        """
        reports = [(name, await self._file(name, stream)) for name, stream in files]
        if wait:
            await wait_until_embedded(self.client, self._embedded)
        return {**reports[0][1]} if len(reports) == 1 else merged(reports)

    async def _file(self, name: str, stream: BinaryIO) -> Report:
        from engram.importers.reading import read

        reading = await asyncio.to_thread(
            read, stream, format=self.format, filename=Path(name).name
        )
        tally, local = Tally(reading.format), LocalReport(reading.format)
        self._tallies.append(tally)
        made = batches(self._items(reading, local), tally)
        try:
            await self._send_all(made, tally, stream)
        finally:
            tally.add(local.as_json(), ())  # type: ignore[arg-type]  # the same shape, made there
            tally.note(reading.warnings)
        self._done_bytes += _position(stream)
        return tally.report()

    def _items(
        self, found: Iterable[Found], local: LocalReport
    ) -> Iterator[tuple[Position, Mapping[str, Any]]]:
        for one in found:
            self._read += 1
            if one.fault is not None or one.item is None:
                if one.fault is not None:
                    local.fail(one, one.fault)
                continue
            yield Position(one.index, one.line), one.item

    async def _send_all(self, made: Iterator[Batch], tally: Tally, stream: BinaryIO) -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def send(batch: Batch) -> None:
            try:
                report = await self.client.import_batch(batch.ndjson, **self.options)
            finally:
                slots.release()
            tally.add(report, batch.positions)
            self.on_progress(self._progress())

        try:
            async with asyncio.TaskGroup() as sending:
                # Reading happens in a thread, so that it never holds up what is in flight; a slot
                # first, then the next batch: memory stays flat however fast the file is read.
                while await slots.acquire():
                    batch = await asyncio.to_thread(next, made, None)
                    if batch is None:
                        break
                    sending.create_task(send(batch))
                    self.on_progress(self._progress(_position(stream)))
        except BaseExceptionGroup as group:
            raise _first(group) from group

    def _progress(self, position: int | None = None) -> Progress:
        counts = [tally.counts for tally in self._tallies]
        return Progress(
            read=self._read,
            answered=sum(count["received"] for count in counts),
            stored=sum(count["imported"] + count["updated"] for count in counts),
            read_bytes=self._done_bytes + (position or 0),
        )

    def _embedded(self, embedded: int, to_embed: int) -> None:
        self.on_progress(replace(self._progress(), embedded=embedded, to_embed=to_embed))


def merged(reports: Sequence[tuple[str, Report]]) -> dict[str, Any]:
    """Return one report of several files: counts summed, each error with its ``file``."""
    formats = {report["format"] for _, report in reports}
    total = Tally(formats.pop() if len(formats) == 1 else "mixed")
    for _, report in reports:
        total.add(report, ())
    errors = [{"file": name, **error} for name, report in reports for error in report["errors"]]
    return {**total.report(), "errors": errors}


def totals(report: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the counts of a report in their order, without the zeros after ``received``."""
    return [(name, report[name]) for name in COUNTS if name == "received" or report[name]]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return _first(error)
    if isinstance(error, EngramError):
        again = "Then run the same import again: what is stored already is recognised."
        error.cure = f"{error.cure} {again}".strip()
    return error


def _position(stream: BinaryIO) -> int:
    try:
        return stream.tell()
    except (OSError, ValueError):
        return 0
