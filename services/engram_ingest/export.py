"""The export route: everything a workspace holds, streamed in pages, in any of the shapes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import orjson
import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from engram import metrics
from engram.domain.fields import FieldError, label
from engram.domain.memory import invalid
from engram.errors import EngramError, Fault, UnavailableError
from engram.exporters.shape import Section, Shape
from engram.exporters.shapes import SHAPES, by_name
from engram.storage import auditing, exporting, records
from engram.storage.connection import about
from engram.storage.contention import until_won
from engram.storage.exporting import Row, Selection
from engram.storage.spaces import read_space
from engram_ingest import schemas
from engram_ingest.authentication import Principal
from engram_ingest.dependencies import MemoryCaller, doors_of
from engram_ingest.doors import Doors

log = structlog.get_logger(__name__)
router = APIRouter(tags=["export"])

# Bounds what one export holds in memory: 200 of the largest memories are about 30 MB.
_PAGE = 200
_FIRST = UUID(int=0)
# An export takes long, and Postgres may restart meanwhile: a page is asked for again.
_TRIES = 10
_PAUSE_S = 1.0
_late: set[asyncio.Task[None]] = set()


@dataclass(slots=True)
class _Export:
    """One export on its way out.

    Attributes:
        selection: None when there is nothing to read.
        embedded: tell of each memory whether it has a current vector.
        began: for the duration, in seconds of the monotonic clock.
    """

    doors: Doors
    caller: Principal
    shape: Shape
    selection: Selection | None
    namespace: str | None
    embedded: bool
    began: float = field(default_factory=time.monotonic)
    memories: int = 0
    sent_bytes: int = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the document; an entry of the audit trail tells how it ended."""
        whole = False
        try:
            async for chunk in self._document():
                self.sent_bytes += len(chunk)
                yield chunk
            await self._audit("export.finished")
            whole = True
            # Sent last: who has the end of the document knows that it is whole.
            yield self._ending()
        finally:
            if not whole:
                _audit_late(self)

    async def _document(self) -> AsyncIterator[bytes]:
        yield self.shape.opening(datetime.now(UTC)).encode()
        for section in self.shape.sections:
            yield section.opening.encode()
            async for chunk in self._elements(section):
                yield chunk

    def _ending(self) -> bytes:
        # Lines end each with their own line break: an empty export is an empty file.
        bare = self.shape.name == "native" and not self.memories
        return b"" if bare else self.shape.closing.encode()

    async def _elements(self, section: Section) -> AsyncIterator[bytes]:
        between = self.shape.between.encode()
        first = True
        async for rows in self._pages():
            made = [element for row in rows if (element := section.element(row)) is not None]
            if made:
                yield (b"" if first else between) + between.join(map(orjson.dumps, made))
                first = False
            if section is self.shape.sections[0]:
                self.memories += len(made)

    async def _pages(self) -> AsyncIterator[list[Row]]:
        after = _FIRST
        while self.selection is not None:
            rows = await self._page(self.selection, after)
            if rows:
                yield rows
                after = rows[-1]["id"]
            if len(rows) < _PAGE:
                return

    async def _page(self, selection: Selection, after: UUID) -> list[Row]:
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._read(selection, after)
            except UnavailableError:
                if attempt == _TRIES:
                    raise
                await asyncio.sleep(_PAUSE_S)
        raise AssertionError  # pragma: no cover - the last try returns or raises

    async def _read(self, selection: Selection, after: UUID) -> list[Row]:
        return await until_won(lambda: self._read_once(selection, after))

    async def _read_once(self, selection: Selection, after: UUID) -> list[Row]:
        async with about(self.doors.pool, [selection.workspace]) as connection:
            rows = await exporting.page(connection, selection, after, _PAGE)
            if not self.embedded:
                return rows
            space = await read_space(connection, selection.workspace, selection.namespace)
            told = await exporting.with_embedded(connection, selection.workspace, rows, space)
            if selection.namespace is None:
                await records.as_read(connection, selection.workspace, told, space)
            return told

    async def _audit(self, action: str) -> None:
        counts = {"memories": self.memories, "bytes": self.sent_bytes}
        entry = auditing.Entry(
            self.caller.workspace,
            self.caller.key_id,
            action,
            self.namespace,
            counts,
            self.shape.name,
            round(time.monotonic() - self.began, 3),
        )
        async with about(self.doors.pool, [self.caller.workspace]) as connection:
            await auditing.record(connection, entry)
        metrics.EXPORTED.labels(self.shape.name).inc(self.memories)

    async def audit_cut_off(self) -> None:
        """Tell of an export that did not reach its end: content left the store all the same."""
        try:
            await self._audit("export.cut_off")
        except EngramError as error:
            log.warning("export not audited", code=error.code, workspace=self.caller.workspace)


def _audit_late(export: _Export) -> None:
    # The request is being torn down: what is awaited in it would be cancelled.
    with contextlib.suppress(RuntimeError):  # no loop any more: the process ends
        task = asyncio.get_running_loop().create_task(export.audit_cut_off())
        _late.add(task)
        task.add_done_callback(_late.discard)


@router.get("/v1/export", **schemas.download([shape.media_type for shape in SHAPES]))
async def export_memories(
    request: Request,
    caller: MemoryCaller,
    format: Annotated[str, Query(description="native, mem0 or agentmemory")] = "native",  # noqa: A002 - the name in the contract
    namespace: str | None = None,
    embedded: Annotated[
        bool, Query(description="Native only: tell of each whether it has a current vector.")
    ] = False,
) -> Response:
    """Stream every memory that is not deleted, in order of id."""
    shape = by_name(format)
    export = await _begin(request, caller, shape, _checked(namespace), embedded=embedded)
    name = f"engram-{shape.name}.{shape.ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(export.chunks(), media_type=shape.media_type, headers=headers)


async def _begin(
    request: Request, caller: Principal, shape: Shape, namespace: str | None, *, embedded: bool
) -> _Export:
    doors = doors_of(request)
    async with about(doors.pool, [caller.workspace]) as connection:
        last = await exporting.last_id(connection, caller.workspace, namespace)
    selection = None
    if last is not None:
        selection = Selection(caller.workspace, shape.states, namespace, last)
    told = embedded and shape.name == "native"
    return _Export(doors, caller, shape, selection, namespace, told)


def _checked(namespace: str | None) -> str | None:
    try:
        return label(256)(namespace)
    except FieldError as error:
        raise invalid([Fault("/namespace", error.code, str(error))]) from None
