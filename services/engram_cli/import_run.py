"""Sends export files to the server as they stand, and follows the jobs that they become."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from engram.client.imports import COUNTS, MAX_LISTED_ERRORS, Tally
from engram.errors import ConflictError, EngramError, MalformedError
from engram_cli.embedded_wait import wait_until_embedded

if TYPE_CHECKING:
    from engram.client import AsyncClient
    from engram.client.types import ImportOptions

_PIECE_BYTES: Final = 256 * 1024
_POLL_S: Final = 0.5
_FIRST_POLL_S: Final = 0.05
_LINES_SUFFIXES: Final = (".jsonl", ".ndjson")
_REPORT: Final = ("format", *COUNTS, "by_namespace", "warnings")

TakeError = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is; what the bar shows.

    Attributes:
        sent_bytes: bytes sent of all files.
        read: items the server has accounted for so far.
        stored: items that are stored because of it: imported or updated.
        read_bytes: bytes that the server has read; of ``body_bytes``, while a job runs.
        embedded: memories with a vector; ``None`` while that is not waited for.
        to_embed: memories that get one.
        eta_s: seconds left, as the server estimates.
    """

    sent_bytes: int = 0
    read: int = 0
    stored: int = 0
    read_bytes: int = 0
    body_bytes: int = 0
    embedded: int | None = None
    to_embed: int = 0
    eta_s: float | None = None


@dataclass(slots=True)
class ImportRun:
    """One ``engram import``: files in, one report out.

    Attributes:
        client: talks to the server.
        options: strategy, dry run and namespace, the same for every file.
        format: name of the files' format, when it shall not be detected.
        on_progress: called whenever something is known that was not before.
        on_error: told every error of every item, with its file's name.
        revive: what was deleted in engram is stored anew.
        job: id of the job that is being followed, for whoever interrupts it.
    """

    client: AsyncClient
    options: ImportOptions
    format: str | None
    on_progress: Callable[[Progress], None]
    on_error: TakeError | None = None
    revive: bool = False
    job: str | None = None
    _sent_bytes: int = 0
    _done: Progress = field(default_factory=Progress)

    async def run(self, files: Sequence[tuple[str, BinaryIO]], *, wait: bool) -> dict[str, Any]:
        """Import the files one after another and return their report.

        Raises:
            EngramError: the server cannot be reached any more, or a file cannot be read; what was
                stored until then stays, and the same import can be run again.
        """
        try:
            reports = [(name, await self._file(name, stream, wait=wait)) for name, stream in files]
            if wait:
                await wait_until_embedded(self.client, self._embedded)
        except EngramError as error:
            again = "Then run the same import again: what is stored already is recognised."
            error.cure = f"{error.cure} {again}".strip()
            raise
        return {**reports[0][1]} if len(reports) == 1 else merged(reports)

    async def _file(self, name: str, stream: BinaryIO, *, wait: bool) -> dict[str, Any]:
        start = stream.tell()
        size_bytes = stream.seek(0, io.SEEK_END) - start

        def content() -> AsyncIterator[bytes]:
            stream.seek(start)
            return self._pieces(stream)

        answer = await self.client.import_file(
            content,
            size_bytes=size_bytes,
            content_type=_content_type(name),
            format=self.format,
            revive=self.revive,
            **self.options,
        )
        if "state" in answer:
            report = await self._follow(name, answer, wait=wait)
        else:
            report = answer
            for error in report["errors"]:
                self._tell(name, error)
        self._count(report)
        return report

    async def _pieces(self, stream: BinaryIO) -> AsyncIterator[bytes]:
        # Read in a thread: a slow disk must not hold up what is being sent.
        while piece := await asyncio.to_thread(stream.read, _PIECE_BYTES):
            yield piece
            self._sent_bytes += len(piece)
            self.on_progress(replace(self._done, sent_bytes=self._sent_bytes))

    async def _follow(self, name: str, job: dict[str, Any], *, wait: bool) -> dict[str, Any]:
        self.job, pause_s = job["id"], _FIRST_POLL_S
        path = f"/v1/imports/{job['id']}"
        while job["state"] in ("queued", "running") or (
            wait and job["state"] == "done" and job["pending"]
        ):
            await asyncio.sleep(pause_s)
            pause_s = min(_POLL_S, pause_s * 2)
            job = await self.client.request("GET", path)
            self.on_progress(self._progress_of(job, wait=wait))
        self.job = None
        _refuse_unfinished(job)
        return {
            **{key: job[key] for key in _REPORT},
            "errors": await self._errors(name, path),
            **_replaced(job),
        }

    async def _errors(self, name: str, path: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        async for error in self.client.lines(f"{path}/errors"):
            self._tell(name, error)
            if len(listed) < MAX_LISTED_ERRORS:
                detail = f"{error['pointer']} {error['detail']}".strip()
                kept = {key: error[key] for key in ("index", "line", "external_id", "code")}
                listed.append({**kept, "detail": detail})
        return listed

    def _tell(self, name: str, error: Mapping[str, Any]) -> None:
        if self.on_error is not None:
            self.on_error(name, error)

    def _progress_of(self, job: Mapping[str, Any], *, wait: bool) -> Progress:
        storing = job["state"] in ("queued", "running")
        return replace(
            self._done,
            sent_bytes=self._sent_bytes,
            read=self._done.read + job["received"],
            stored=self._done.stored + job["imported"] + job["updated"],
            read_bytes=job["read_bytes"],
            body_bytes=job["body_bytes"],
            embedded=None if storing or not wait else job["embedded"],
            to_embed=job["embedded"] + job["pending"],
            eta_s=job["eta_s"],
        )

    def _count(self, report: Mapping[str, Any]) -> None:
        done = self._done
        self._done = Progress(
            sent_bytes=self._sent_bytes,
            read=done.read + report["received"],
            stored=done.stored + report["imported"] + report["updated"],
        )
        self.on_progress(self._done)

    def _embedded(self, embedded: int, to_embed: int) -> None:
        self.on_progress(replace(self._done, embedded=embedded, to_embed=to_embed))


def _replaced(job: Mapping[str, Any]) -> dict[str, Any]:
    if job["strategy"] != "replace":
        return {}
    return {"archived": job["archived"], "import_id": job["id"]}


def _refuse_unfinished(job: Mapping[str, Any]) -> None:
    problem = job["error"]
    if problem is not None:
        so_far = f" {job['received']:,} items were read before." if job["received"] else ""
        raise MalformedError(problem["code"], f"{problem['detail']}{so_far}", cure=problem["cure"])
    if job["state"] != "done":
        raise ConflictError(
            "import_cancelled",
            f"The import was cancelled after {job['received']:,} items.",
            cure="What it had stored stays.",
        )


def _content_type(name: str) -> str:
    plain = name.lower().removesuffix(".gz")
    return "application/x-ndjson" if plain.endswith(_LINES_SUFFIXES) else "application/octet-stream"


def merged(reports: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return one report of several files: counts summed, each error with its ``file``."""
    formats = {report["format"] for _, report in reports}
    total = Tally(formats.pop() if len(formats) == 1 else "mixed")
    for _, report in reports:
        total.add(report, ())  # type: ignore[arg-type]  # the report of the API, as it came
    errors = [{"file": name, **error} for name, report in reports for error in report["errors"]]
    return {**total.report(), "errors": errors}


def totals(report: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the counts of a report in their order, without the zeros after ``received``."""
    return [(name, report[name]) for name in COUNTS if name == "received" or report[name]]


def errors_path(name: str, chosen: str) -> Path:
    """Return where the errors of a file go: ``beside`` it, or where it was said."""
    return Path(f"{name}.errors.ndjson") if chosen == "beside" else Path(chosen)
