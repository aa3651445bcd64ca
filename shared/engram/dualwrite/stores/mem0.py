"""mem0: ``Memory``, ``MemoryClient`` and their asynchronous forms, 0.1 to 2.x."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engram.dualwrite.answers import Told, json_row, means_gone, rows_of, told_by_add
from engram.dualwrite.flows import Flow
from engram.dualwrite.stores import Row

_PAGE: Final = 100
_MOST: Final = 1_000_000


class Mem0Store:
    """Adapter of any mem0 client, by the signatures of its methods.

    Memory 0.1 and 1.x take ``user_id=`` and ``limit=``, 2.x ``filters=`` and ``top_k=``;
    MemoryClient 0.1 has ``version=``, 2.x ``options=``. Rows are those of ``get``, which the
    importer of mem0 exports reads.
    """

    format = "mem0"
    source = "mem0"

    def __init__(self, client: Any) -> None:
        self.client = client
        self._parameters = frozenset(inspect.signature(client.get_all).parameters)

    def told(self, method: str, arguments: Mapping[str, Any], answer: Any) -> Told:
        """Read the answer of ``add``: its ADD, UPDATE and DELETE events, or PENDING."""
        del method, arguments
        return told_by_add(answer)

    def id_of(self, row: Mapping[str, Any]) -> str:
        """Return the id of a row."""
        return str(row["id"])

    def read(self, memory_id: str, scope: Mapping[str, str]) -> Flow[Row | None]:
        """Read one memory; a 404 and None both mean that there is none."""
        del scope
        try:
            row = yield lambda: self.client.get(memory_id)
        except Exception as error:
            if means_gone(error):
                return None
            raise
        return json_row(row) if isinstance(row, Mapping) and row.get("id") else None

    def rows(self, scope: Mapping[str, str]) -> Flow[Sequence[Row]]:
        """Read every memory of a scope; mem0's own calls stop at 20 or 100 unless told."""
        if not self._pages():
            answer = yield lambda: self.client.get_all(**self._whole(scope))
            return [json_row(row) for row in rows_of(answer)]
        found: list[Row] = []
        page = 1
        while True:
            asked = self._paged(scope) | {"page": page, "page_size": _PAGE}
            answer = yield lambda asked=asked: self.client.get_all(**asked)  # type: ignore[misc]  # bound now
            rows = rows_of(answer)
            found += [json_row(row) for row in rows]
            if len(rows) < _PAGE:
                return found
            page += 1

    def resolve(self, event_id: str) -> Flow[Told | None]:
        """Ask the Platform for an event (``GET /v1/event/{id}/``); None for OSS."""
        http = getattr(self.client, "client", None) or getattr(self.client, "async_client", None)
        if not event_id or not callable(getattr(http, "get", None)):
            return None
        response = yield lambda: http.get(f"/v1/event/{event_id}/")  # type: ignore[union-attr]  # it is callable
        if getattr(response, "status_code", 0) != 200:
            return None
        told = told_by_add(response.json())
        return told if told.anything else None

    def _pages(self) -> bool:
        # Memory limits what it returns; MemoryClient takes pages, by keyword only.
        return self._parameters.isdisjoint({"limit", "top_k"})

    def _whole(self, scope: Mapping[str, str]) -> dict[str, Any]:
        if "top_k" in self._parameters:
            return {"filters": dict(scope), "top_k": _MOST, "show_expired": True}
        return {**scope, "limit": _MOST}

    def _paged(self, scope: Mapping[str, str]) -> dict[str, Any]:
        return dict(scope) if "version" in self._parameters else {"filters": dict(scope)}
