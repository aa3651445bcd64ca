"""Holds a file against the store in bounded memory: names and digests lie in a file on disk."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from engram.domain.comparing import differing, digest, names_of, states_agree
from engram.domain.memory import NewMemory, State

LISTED: Final = 100
NAMESPACES: Final = 1000
_KINDS: Final = ("missing", "extra", "different", "missing_vectors")
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32768;
CREATE TABLE item (
    number INTEGER PRIMARY KEY, digest BLOB, state TEXT, namespace TEXT, source TEXT,
    external_id TEXT, id TEXT, seen INTEGER NOT NULL DEFAULT 0);
CREATE TABLE name (name BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE finding (
    kind TEXT, namespace TEXT, source TEXT, external_id TEXT, id TEXT, fields TEXT);
"""


class Comparison:
    """Reads the file first, then the store, then says what differs.

    Attributes:
        sources: of the file's memories; further ones in the store are no business of the file.
        repeated: memories whose name came before in the same file.
        in_file: distinct memories of the file.
        in_store: memories of the store that were looked at.
        equal: memories that are the same in both.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.sources: set[str] = set()
        self.repeated = 0
        self.in_file = 0
        self.in_store = 0
        self.equal = 0

    def add_file(self, memories: Iterable[NewMemory]) -> None:
        """Take the memories of the file."""
        for memory in memories:
            self.sources.add(memory.source)
            if self._number_of(memory) is not None:
                self.repeated += 1
                continue
            self.in_file += 1
            self._database.execute(
                "INSERT INTO item (number, digest, state, namespace, source, external_id, id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self.in_file, digest(memory), memory.state, *_told(memory)),
            )
            self._database.executemany(
                "INSERT INTO name (name, number) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(name, self.in_file) for name in names_of(memory)],
            )

    def add_store(
        self, records: Iterable[tuple[NewMemory, bool]], *, every_source: bool, now: datetime
    ) -> None:
        """Take the memories of the store, each with whether it has a current vector.

        Args:
            records: the export of the store.
            every_source: whether memories of sources that the file does not have are extra.
            now: what has expired by then needs no vector.
        """
        for memory, embedded in records:
            number = self._number_of(memory)
            if number is None and not every_source and memory.source not in self.sources:
                continue
            self.in_store += 1
            if number is None:
                self._note("extra", memory)
                continue
            self._compare(number, memory)
            expired = memory.expires_at is not None and memory.expires_at <= now
            if memory.state == "active" and not embedded and not expired:
                self._note("missing_vectors", memory)

    def finish(self) -> None:
        """Note what of the file the store does not have."""
        self._database.execute(
            "INSERT INTO finding SELECT 'missing', namespace, source, external_id, id, NULL "
            "FROM item WHERE NOT seen ORDER BY number"
        )

    def counts(self) -> dict[str, int]:
        """Return how many of each kind of difference there are."""
        found = dict(
            self._database.execute("SELECT kind, count(*) FROM finding GROUP BY kind").fetchall()
        )
        return {kind: found.get(kind, 0) for kind in _KINDS}

    def needs_import(self) -> bool:
        """Say whether the file holds what the store lacks or has otherwise."""
        found = self.counts()
        return bool(found["missing"] or found["different"])

    def extra_ids(self, most: int) -> Iterator[list[str]]:
        """Yield the ids of what only the store has, up to ``most`` at a time."""
        rows = self._database.execute("SELECT id FROM finding WHERE kind = 'extra' ORDER BY rowid")
        while some := rows.fetchmany(most):
            yield [str(named) for (named,) in some]

    def by_namespace(self) -> dict[str, dict[str, int]]:
        """Return the counts of the namespaces with differences; the 1,000 with most of them."""
        rows = self._database.execute(
            "SELECT namespace, kind, count(*) FROM finding WHERE namespace IN ("
            " SELECT namespace FROM finding GROUP BY namespace ORDER BY count(*) DESC, namespace"
            f" LIMIT {NAMESPACES}) GROUP BY namespace, kind ORDER BY namespace"
        )
        return {
            namespace: dict.fromkeys(_KINDS, 0) | {kind: count for _, kind, count in group}
            for namespace, group in itertools.groupby(rows, key=lambda row: str(row[0]))
        }

    def listed(self) -> dict[str, list[dict[str, Any]]]:
        """Return the first 100 of each kind, by their names, never their texts."""
        return {kind: list(self._listed(kind)) for kind in _KINDS}

    def _listed(self, kind: str) -> Iterator[dict[str, Any]]:
        columns = ("namespace", "source", "external_id", "id")
        rows = self._database.execute(
            f"SELECT {', '.join(columns)}, fields FROM finding WHERE kind = ? "
            f"ORDER BY rowid LIMIT {LISTED}",
            (kind,),
        )
        for *told, fields in rows:
            line = dict(zip(columns, told, strict=True))
            yield line | ({"fields": fields.split()} if fields else {})

    def _compare(self, number: int, memory: NewMemory) -> None:
        [row] = self._database.execute("SELECT digest, state FROM item WHERE number = ?", (number,))
        in_file: tuple[bytes, State] = row
        fields = differing(in_file[0], digest(memory))
        if not states_agree(in_file[1], memory.state):
            fields.append("state")
        if fields:
            self._note("different", memory, fields)
        else:
            self.equal += 1
        self._database.execute("UPDATE item SET seen = 1 WHERE number = ?", (number,))

    def _number_of(self, memory: NewMemory) -> int | None:
        for name in names_of(memory):
            row = self._database.execute(
                "SELECT number FROM name WHERE name = ?", (name,)
            ).fetchone()
            if row is not None:
                return int(row[0])
        return None

    def _note(self, kind: str, memory: NewMemory, fields: Sequence[str] = ()) -> None:
        self._database.execute(
            "INSERT INTO finding VALUES (?, ?, ?, ?, ?, ?)",
            (kind, *_told(memory), " ".join(fields) or None),
        )


def _told(memory: NewMemory) -> tuple[str, str, str | None, str | None]:
    named = str(memory.id) if memory.id else None
    return memory.namespace, memory.source, memory.external_id, named


@contextlib.contextmanager
def open_comparison() -> Iterator[Comparison]:
    """Yield an empty comparison; what it keeps on disk is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="engram-compare-") as folder:
        database = sqlite3.connect(Path(folder) / "compare.sqlite", isolation_level=None)
        try:
            database.executescript(_SCHEMA)
            database.execute("BEGIN")
            yield Comparison(database)
        finally:
            database.close()
