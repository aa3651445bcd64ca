"""A table of one's own behind mem0-like calls: any DB-API 2.0 driver."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engram.dualwrite.answers import Told, json_row, told_by_add
from engram.dualwrite.flows import Flow
from engram.dualwrite.stores import Row
from engram.errors import UsageError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")
_COLUMNS: Final = ("id", "content", "user_id", "created_at", "updated_at")


class SqlTable:
    """The calls of an application, on a table of texts.

    Its columns are ``id, content, user_id, created_at, updated_at``.

    Args:
        connect: opens a connection; one for each call, closed afterwards.
        table: its name.
        mark: how the driver marks a parameter: ``%s`` or ``?``.

    Raises:
        UsageError: the table's name is none.
    """

    def __init__(
        self, connect: Callable[[], Any], table: str = "memories", mark: str = "%s"
    ) -> None:
        if not _NAME.fullmatch(table) or mark not in ("%s", "?"):
            raise UsageError("bad_table", "The table's name or the parameter mark is none.")
        self._connect = connect
        self._table = table
        self._mark = mark

    def add(self, content: str, *, user_id: str, **_: object) -> dict[str, Any]:
        """Store a text as it is."""
        named, now = str(uuid.uuid4()), datetime.now(UTC).isoformat()
        marks = ", ".join([self._mark] * len(_COLUMNS))
        self._run(
            f"INSERT INTO {self._table} ({', '.join(_COLUMNS)}) VALUES ({marks})",
            (named, content, user_id, now, now),
        )
        return {"results": [{"id": named, "memory": content, "event": "ADD"}]}

    def update(self, memory_id: str, data: str) -> dict[str, Any]:
        """Change the text of a memory."""
        where = f"updated_at = {self._mark} WHERE id = {self._mark}"
        self._run(
            f"UPDATE {self._table} SET content = {self._mark}, {where}",
            (data, datetime.now(UTC).isoformat(), memory_id),
        )
        return {"message": "updated"}

    def delete(self, memory_id: str) -> dict[str, Any]:
        """Delete a memory."""
        self._run(f"DELETE FROM {self._table} WHERE id = {self._mark}", (memory_id,))
        return {"message": "deleted"}

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """Return a memory, or None."""
        found = self._rows(f"WHERE id = {self._mark}", (memory_id,))
        return found[0] if found else None

    def get_all(self, *, user_id: str, **_: object) -> dict[str, Any]:
        """Return every memory of a user."""
        rows = self._rows(f"WHERE user_id = {self._mark} ORDER BY created_at", (user_id,))
        return {"results": rows}

    def search(self, query: str, *, user_id: str, limit: int = 10, **_: object) -> dict[str, Any]:
        """Return the memories of a user with most of the query's words."""
        words = set(query.lower().split())
        rows = self.get_all(user_id=user_id)["results"]
        ranked = sorted(rows, key=lambda row: -len(words & set(row["memory"].lower().split())))
        return {"results": ranked[:limit]}

    def _rows(self, where: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        found = self._run(f"SELECT {', '.join(_COLUMNS)} FROM {self._table} {where}", parameters)
        rows = [json_row(dict(zip(_COLUMNS, row, strict=True))) for row in found]
        return [{**row, "memory": row["content"]} for row in rows]

    def _run(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        with self._connection() as connection:
            cursor = connection.cursor()
            cursor.execute(statement, tuple(parameters))
            found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
            return found

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()


class SqlStore:
    """Adapter of `SqlTable`, or of anything with its methods."""

    format = "postgres"
    source = "postgres"

    def __init__(self, client: Any) -> None:
        self.client = client

    def told(self, method: str, arguments: Mapping[str, Any], answer: Any) -> Told:
        """Read the answer of ``add``."""
        del method, arguments
        return told_by_add(answer)

    def id_of(self, row: Mapping[str, Any]) -> str:
        """Return the id of a row."""
        return str(row["id"])

    def read(self, memory_id: str, scope: Mapping[str, str]) -> Flow[Row | None]:
        """Read one memory."""
        del scope
        row = yield lambda: self.client.get(memory_id)
        return _own_columns(row) if row else None

    def rows(self, scope: Mapping[str, str]) -> Flow[Sequence[Row]]:
        """Read every memory of a user."""
        answer = yield lambda: self.client.get_all(**scope)
        return [_own_columns(row) for row in answer["results"]]

    def resolve(self, event_id: str) -> Flow[Told | None]:
        """Nothing is ever pending."""
        del event_id
        yield from ()
        return None


def _own_columns(row: Mapping[str, Any]) -> Row:
    # As an export of the table has it, which names the text only once.
    return {name: value for name, value in row.items() if name != "memory"}
