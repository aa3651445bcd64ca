"""Zep: the facts (edges) of a user's graph behind mem0-like calls, zep-cloud 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engram.dualwrite.answers import Told, json_row, means_gone
from engram.dualwrite.flows import Flow
from engram.dualwrite.stores import Row
from engram.errors import UsageError

_PAGE: Final = 100


class ZepCalls:
    """The calls of an application, for a ``Zep`` or ``AsyncZep`` client.

    Args:
        client: of zep_cloud.
    """

    def __init__(self, client: Any) -> None:
        self.zep = client

    def add(self, messages: Any, *, user_id: str, **options: Any) -> Any:
        """Add text to a user's graph; facts are extracted later."""
        text = messages if isinstance(messages, str) else _spoken(messages)
        return self.zep.graph.add(user_id=user_id, type="text", data=text, **options)

    def search(self, query: str, *, user_id: str, limit: int = 10, **options: Any) -> Any:
        """Search a user's facts."""
        return self.zep.graph.search(
            query=query, user_id=user_id, scope="edges", limit=limit, **options
        )

    def get(self, memory_id: str) -> Any:
        """Return one fact."""
        return self.zep.graph.edge.get(uuid_=memory_id)

    def get_all(self, *, user_id: str, limit: int = _PAGE, uuid_cursor: str | None = None) -> Any:
        """Return a page of a user's facts."""
        return self.zep.graph.edge.get_by_user_id(user_id, limit=limit, uuid_cursor=uuid_cursor)

    def delete(self, memory_id: str) -> Any:
        """Delete one fact."""
        return self.zep.graph.edge.delete(uuid_=memory_id)

    def update(self, memory_id: str, *_: object, **__: object) -> Any:
        """Refuse: Zep's facts change by what is added.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "zep_has_no_update",
            f"Zep cannot change the fact {memory_id[:64]!r}.",
            cure="Add the new fact, or delete the old one.",
        )


class ZepStore:
    """Adapter of `ZepCalls`: what was added is found by listing the user's facts afterwards."""

    format = "zep"
    source = "zep"

    def __init__(self, client: Any) -> None:
        self.client = client if isinstance(client, ZepCalls) else ZepCalls(client)

    def told(self, method: str, arguments: Mapping[str, Any], answer: Any) -> Told:
        """Everything is pending: an answer to ``add`` names the episode, not its facts."""
        del method, arguments, answer
        return Told(pending=("",))

    def id_of(self, row: Mapping[str, Any]) -> str:
        """Return the id of a row."""
        return str(row["uuid"])

    def read(self, memory_id: str, scope: Mapping[str, str]) -> Flow[Row | None]:
        """Read one fact; a 404 means that there is none."""
        try:
            edge = yield lambda: self.client.get(memory_id)
        except Exception as error:
            if means_gone(error):
                return None
            raise
        return {**_row(edge), **scope}

    def rows(self, scope: Mapping[str, str]) -> Flow[Sequence[Row]]:
        """Read every fact of a user, page by page."""
        found: list[Row] = []
        cursor: str | None = None
        while True:
            asked = {"user_id": scope["user_id"], "limit": _PAGE, "uuid_cursor": cursor}
            edges = yield lambda asked=asked: self.client.get_all(**asked)  # type: ignore[misc]  # bound now
            found += [{**_row(edge), "user_id": scope["user_id"]} for edge in edges or ()]
            if len(edges or ()) < _PAGE:
                return found
            cursor = found[-1]["uuid"]

    def resolve(self, event_id: str) -> Flow[Told | None]:
        """Zep does not say which facts came of an episode."""
        del event_id
        yield from ()
        return None


def _row(edge: Any) -> Row:
    dump = getattr(edge, "model_dump", None) or getattr(edge, "dict", None)
    row = json_row(edge if isinstance(edge, Mapping) else dump() if callable(dump) else vars(edge))
    # The client calls it uuid_, because uuid is a name of Python's.
    return {**row, "uuid": row.pop("uuid_", None) or row.get("uuid")}


def _spoken(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"{one.get('role', 'user')}: {one.get('content', '')}" for one in messages)
