"""``EngramReads``: engram behind mem0's calls, for shadow reads and for the phases after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from engram.client import Client
from engram.dualwrite.answers import scope_of
from engram.errors import NotFoundError

_LIMIT: Final = 10
_OWNER: Final = {"run_id": "session_id"}


class EngramReads:
    """Answers like mem0: ids are the old store's where a memory has one, else engram's.

    Args:
        client: of engram, safe to share between threads.
        source: of the memories that came from the old store.
        bare_lists: answer with bare lists instead of ``{"results": [...]}``.
    """

    def __init__(self, client: Client, source: str, *, bare_lists: bool = False) -> None:
        self._client = client
        self._source = source
        self._bare = bare_lists

    def search(self, query: str, **arguments: Any) -> Any:
        """Return what mem0's ``search`` would: the nearest memories, each with its score."""
        limit = int(arguments.get("limit") or arguments.get("top_k") or _LIMIT)
        filters = {_OWNER.get(k, k): v for k, v in scope_of(arguments).items()}
        given = arguments.get("filters")
        if isinstance(given, Mapping):
            filters = {**filters, **given}
        found = self._client.search(query, filters=filters, limit=min(limit, 100))
        hits = [{**self._row(hit["memory"]), "score": hit["score"]} for hit in found["results"]]
        return self._listed(hits)

    def get_all(self, **arguments: Any) -> Any:
        """Return every live memory of the owners that are named."""
        owners = {_OWNER.get(k, k): v for k, v in scope_of(arguments).items()}
        most = arguments.get("limit") or arguments.get("top_k")
        found = []
        for record in self._client.list(page_size=500, **owners):  # type: ignore[arg-type]  # owner ids
            found.append(self._row(record))
            if most and len(found) >= int(most):
                break
        return self._listed(found)

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """Return one memory by the old store's id or engram's; None when there is none."""
        record = self._record(memory_id)
        return None if record is None else self._row(record)

    def add(self, messages: Any, **arguments: Any) -> dict[str, Any]:
        """Store what the user said, each message as it is; nothing is extracted."""
        owners: Any = {_OWNER.get(k, k): v for k, v in scope_of(arguments).items()}
        metadata = arguments.get("metadata") or {}
        results = []
        for text in _texts(messages):
            record = self._client.add(text, metadata=metadata, **owners)
            row = self._row(record)
            results.append({"id": row["id"], "memory": row["memory"], "event": "ADD"})
        return {"results": results}

    def update(self, memory_id: str, text: Any = None, **arguments: Any) -> dict[str, Any]:
        """Change text or metadata.

        Raises:
            NotFoundError: there is no such memory.
        """
        change: Any = {}
        text = text if text is not None else arguments.get("data") or arguments.get("text")
        if text is not None:
            change["content"] = text
        if arguments.get("metadata") is not None:
            change["metadata"] = arguments["metadata"]
        self._client.update(self._known(memory_id), **change)
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> dict[str, Any]:
        """Erase a memory.

        Raises:
            NotFoundError: there is no such memory.
        """
        self._client.delete(self._known(memory_id))
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, **arguments: Any) -> dict[str, Any]:
        """Erase every memory of the owners that are named; without one nothing."""
        if scope_of(arguments):
            for row in self.get_all(**arguments) if self._bare else self._results(arguments):
                self.delete(row["id"])
        return {"message": "Memories deleted successfully!"}

    def _results(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        owners = {k: v for k, v in arguments.items() if k not in ("limit", "top_k")}
        results: list[dict[str, Any]] = self.get_all(**owners)["results"]
        return results

    def _known(self, memory_id: str) -> str:
        record = self._record(memory_id)
        if record is None:
            raise NotFoundError(
                "memory_not_found",
                "There is no such memory.",
                cure="Check the id, and whether it was deleted.",
            )
        return str(record["id"])

    def _record(self, memory_id: str) -> Mapping[str, Any] | None:
        named = {"source": self._source, "external_id": memory_id}
        for state in ("active", "merged", "archived"):
            found = self._client.list(page_size=1, state=state, **named)
            record = next(iter(found), None)
            if record is not None:
                return record
        try:
            return self._client.get(memory_id)
        except NotFoundError:
            return None

    def _row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        own = record["external_id"] if record["source"] == self._source else None
        text = record["content"]
        owners = {name: record[name] for name in ("user_id", "agent_id", "app_id")}
        owners["run_id"] = record["session_id"]
        return {
            "id": own or record["id"],
            "memory": text,
            "hash": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
            "metadata": record["metadata"] or None,
            "categories": record["categories"],
            "created_at": record["created_at"],
            "updated_at": record["updated_at"],
            **{name: value for name, value in owners.items() if value is not None},
        }

    def _listed(self, rows: list[dict[str, Any]]) -> Any:
        return rows if self._bare else {"results": rows}


def _texts(messages: Any) -> list[str]:
    if isinstance(messages, str):
        return [messages]
    listed = [messages] if isinstance(messages, Mapping) else list(messages or ())
    told = [one for one in listed if isinstance(one, Mapping) and one.get("role") != "system"]
    said = [one for one in told if one.get("role", "user") == "user"] or told
    return [str(one["content"]) for one in said if one.get("content")]
