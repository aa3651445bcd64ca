"""``Client``: sends the calls of ``engram.client.calls`` and blocks for their answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Self, TypeVar, Unpack

import httpx

from engram import tracing
from engram.backoff import Backoff
from engram.client import calls
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


class Client:
    """Talks to an engram server over HTTP; safe to share between threads.

    Failed connections, 429 and 502 to 504 are tried again with jittered waits; every POST carries
    one ``Idempotency-Key`` through all its tries, so nothing is stored twice.

    Args:
        url: the server's address; default ``ENGRAM_URL``, else http://127.0.0.1:8080.
        api_key: default ``ENGRAM_API_KEY``.
        timeout_s: longest wait for one answer, in seconds.
        backoff: how often and how patiently to try again.
        transport: an httpx transport, for proxies and tests.

    Raises:
        UsageError: the address is none.
        UnauthenticatedError: there is no key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        *,
        backoff: Backoff | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        base_url, headers = connection_settings(url, api_key)
        self._around = Surroundings(backoff or Backoff())
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=timeout_s, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def add(
        self,
        content: str,
        *,
        wait: Literal["embedded"] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[MemoryFields],
    ) -> MemoryRecord:
        """Store one memory; durable when this returns, searchable too with ``wait="embedded"``.

        Raises:
            InvalidError: a field breaks a rule; ``faults`` points at each.
            EngramError: see ``engram.errors``; every method raises only these.
        """
        call = calls.add(content, fields, wait=wait, idempotency_key=idempotency_key)
        return self._run(call)

    def get(self, memory_id: str) -> MemoryRecord:
        """Return one memory.

        Raises:
            NotFoundError: it is unknown or deleted.
        """
        return self._run(calls.get(memory_id))

    def update(
        self, memory_id: str, *, if_match: int | None = None, **change: Unpack[MemoryChange]
    ) -> MemoryRecord:
        """Change the given fields, only if the version is still ``if_match``.

        Raises:
            PreconditionError: the memory has another version.
        """
        return self._run(calls.update(memory_id, change, if_match=if_match))

    def delete(self, memory_id: str, *, if_match: int | None = None) -> None:
        """Erase a memory for good, only if the version is still ``if_match``."""
        self._run(calls.delete(memory_id, if_match=if_match))

    def list(
        self, *, page_size: int = 100, **filters: Unpack[ListOptions]
    ) -> Iterator[MemoryRecord]:
        """Yield every memory that passes the filters, page by page."""
        return self.pages("/v1/memories", filters, page_size=page_size)

    def history(self, memory_id: str) -> Iterator[Revision]:
        """Yield the texts a memory has had."""
        return self.pages(calls.memory_path(memory_id, "history"))

    def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchResult:
        """Return the memories nearest to ``query``, best first."""
        return self._run(calls.search(query, options))

    def context(self, query: str, **options: Unpack[ContextOptions]) -> ContextResult:
        """Return what is known about ``query`` as text that fits a prompt."""
        return self._run(calls.context(query, options))

    def import_memories(
        self, items: Iterable[MemoryItem | Mapping[str, Any]], **options: Unpack[ImportOptions]
    ) -> Report:
        """Store any number of memories, in requests of at most 500 items and 8 MB.

        A bad item fails alone and is listed in the report. Give items an ``external_id`` and the
        same import can be run again safely. With ``strategy="replace"`` one request must do,
        and this waits until the new set has taken over.
        """
        tally = Tally()
        for batch in requests(items, tally, options.get("strategy", "skip")):
            tally.add(self._import_batch(batch.ndjson, options), batch.positions)
        return tally.report()

    def _import_batch(self, ndjson: bytes, options: ImportOptions) -> Report:
        answer = self._run(calls.import_batch(ndjson, options))
        while (report := report_of(answer)) is None:
            time.sleep(LOOK_S)
            answer = self._run(calls.import_job(answer["id"]))
        if report["failed"] and "errors" not in report:
            report["errors"] = self._run(calls.import_errors(report["import_id"]))
        return report

    def workspace(self) -> WorkspaceInfo:
        """Return the key's workspace and how much it holds."""
        return self._run(calls.workspace())

    def pages(
        self, path: str, filters: Mapping[str, Any] | None = None, *, page_size: int = 100
    ) -> Iterator[Any]:
        """Yield the items of any list route, following its cursors."""
        cursor: str | None = None
        while True:
            page = self._run(calls.page(path, filters or {}, cursor, page_size))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def request(self, method: str, path: str, *, body: object = None, **query: Any) -> Any:
        """Call a route that has no method of its own and return its JSON, or ``None``."""
        return self._run(calls.any_route(method, path, query, body))

    def _run(self, call: calls.Call[T]) -> T:
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
                time.sleep(step.seconds)
            else:
                outcome = self._send(call)

    def _send(self, call: calls.Call[Any]) -> httpx.Response | httpx.RequestError:
        try:
            return self._http.request(
                call.method,
                call.path,
                content=call.body or None,
                headers={**call.headers, **tracing.headers()},
            )
        except httpx.RequestError as error:
            return error
