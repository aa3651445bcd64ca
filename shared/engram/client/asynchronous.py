"""``AsyncClient``: sends the calls of ``engram.client.calls`` and awaits their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar, Unpack

import httpx

from engram import tracing
from engram.backoff import Backoff
from engram.client import calls
from engram.client.answers import error_of, value_of
from engram.client.exchange import Surroundings, Wait, connection_settings, exchange
from engram.client.imports import LOOK_S, Tally, report_of, requests
from engram.client.types import (
    ContextOptions,
    ContextResult,
    ImportOptions,
    ListOptions,
    MemoryChange,
    MemoryFields,
    MemoryItem,
    MemoryRecord,
    Report,
    Revision,
    SearchOptions,
    SearchResult,
    WorkspaceInfo,
)

T = TypeVar("T")
Content = Callable[[], AsyncIterator[bytes]]


class AsyncClient:
    """The same as ``Client``, awaited; the arguments and errors are the same too."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        *,
        backoff: Backoff | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        base_url, headers = connection_settings(url, api_key)
        self._around = Surroundings(backoff or Backoff())
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=headers, timeout=timeout_s, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def add(
        self,
        content: str,
        *,
        wait: Literal["embedded"] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[MemoryFields],
    ) -> MemoryRecord:
        """Store one memory: see ``Client.add``."""
        call = calls.add(content, fields, wait=wait, idempotency_key=idempotency_key)
        return await self._run(call)

    async def get(self, memory_id: str) -> MemoryRecord:
        """Return one memory: see ``Client.get``."""
        return await self._run(calls.get(memory_id))

    async def update(
        self, memory_id: str, *, if_match: int | None = None, **change: Unpack[MemoryChange]
    ) -> MemoryRecord:
        """Change the given fields: see ``Client.update``."""
        return await self._run(calls.update(memory_id, change, if_match=if_match))

    async def delete(self, memory_id: str, *, if_match: int | None = None) -> None:
        """Erase a memory for good: see ``Client.delete``."""
        await self._run(calls.delete(memory_id, if_match=if_match))

    def list(
        self, *, page_size: int = 100, **filters: Unpack[ListOptions]
    ) -> AsyncIterator[MemoryRecord]:
        """Yield every memory that passes the filters, page by page."""
        return self.pages("/v1/memories", filters, page_size=page_size)

    def history(self, memory_id: str) -> AsyncIterator[Revision]:
        """Yield the texts a memory has had."""
        return self.pages(calls.memory_path(memory_id, "history"))

    async def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Return the memories nearest to ``query``, best first."""
        return await self._run(calls.search(query, options))

    async def context(self, query: str, **options: Unpack[ContextOptions]) -> ContextResult:
        """Return what is known about ``query`` as text that fits a prompt."""
        return await self._run(calls.context(query, options))

    async def import_memories(
        self, items: Iterable[MemoryItem | Mapping[str, Any]], **options: Unpack[ImportOptions]
    ) -> Report:
        """Store any number of memories: see ``Client.import_memories``."""
        tally = Tally()
        for batch in requests(items, tally, options.get("strategy", "skip")):
            tally.add(await self.import_batch(batch.ndjson, **options), batch.positions)
        return tally.report()

    async def import_batch(self, ndjson: bytes, **options: Unpack[ImportOptions]) -> Report:
        """Send one ready import request, for callers that keep several in flight."""
        answer = await self._run(calls.import_batch(ndjson, options))
        while (report := report_of(answer)) is None:
            await asyncio.sleep(LOOK_S)
            answer = await self._run(calls.import_job(answer["id"]))
        if report["failed"] and "errors" not in report:
            report["errors"] = await self._run(calls.import_errors(report["import_id"]))
        return report

    async def import_file(
        self,
        content: Content,
        *,
        size_bytes: int | None = None,
        content_type: str = "application/octet-stream",
        format: str | None = None,  # noqa: A002 - the name in the contract
        revive: bool = False,
        **options: Unpack[ImportOptions],
    ) -> dict[str, Any]:
        """Send an export file of any size, as it stands.

        Args:
            content: called for each try; yields the file from its beginning.
            size_bytes: of the file, if it is known: then the server can refuse it at once.
            content_type: ``application/x-ndjson`` says that it is JSON Lines.
            format: name of its format; default: detected.
            revive: store anew what was deleted.
            options: as of ``import_memories``.

        Returns:
            The report; for a large file the job it became, which has a ``state``.
        """
        query = {**options, "format": format, "revive": revive or None}
        return await self._run(calls.import_file(query, content_type, size_bytes), content)

    async def lines(self, path: str) -> AsyncIterator[Any]:
        """Yield the objects of a route that answers NDJSON, as they come."""
        async with self._http.stream("GET", path) as response:
            if not response.is_success:
                await response.aread()
                raise error_of(response, datetime.now(UTC))
            rest = b""
            async for part in response.aiter_bytes():
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    if line:
                        yield value_of(line)
            if rest:
                yield value_of(rest)

    async def workspace(self) -> WorkspaceInfo:
        """Return the key's workspace and how much it holds."""
        return await self._run(calls.workspace())

    async def pages(
        self, path: str, filters: Mapping[str, Any] | None = None, *, page_size: int = 100
    ) -> AsyncIterator[Any]:
        """Yield the items of any list route, following its cursors."""
        cursor: str | None = None
        while True:
            page = await self._run(calls.page(path, filters or {}, cursor, page_size))
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def request(self, method: str, path: str, *, body: object = None, **query: Any) -> Any:
        """Call a route that has no method of its own and return its JSON, or ``None``."""
        return await self._run(calls.any_route(method, path, query, body))

    async def _run(self, call: calls.Call[T], content: Content | None = None) -> T:
        steps = exchange(call, self._around)
        outcome: httpx.Response | httpx.RequestError | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            outcome = None
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            else:
                outcome = await self._send(call, content)

    async def _send(
        self, call: calls.Call[Any], content: Content | None
    ) -> httpx.Response | httpx.RequestError:
        body = content() if content else call.body or None
        try:
            return await self._http.request(
                call.method, call.path, content=body, headers={**call.headers, **tracing.headers()}
            )
        except httpx.RequestError as error:
            return error
