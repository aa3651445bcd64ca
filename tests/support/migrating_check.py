"""Holds a store against the promises of a migration with plain SQL: I1, I2, I3, I4, I6 and I7.

Independent of the code under test: a superuser's connection, a client's own ledger, and vectors
computed from texts. Spaces are named by id.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]
# Stored halves and their products differ from those of single precision by about this much.
_ROUNDING = 5e-3


@dataclass(frozen=True)
class Checker:
    """Looks at a store from outside.

    Attributes:
        sql: of a superuser, whom no policy hides anything from.
    """

    sql: asyncpg.Connection

    async def nothing_lost(self, accepted: Mapping[UUID, str]) -> None:
        """I1: every accepted memory is there with its present text."""
        rows = await self.sql.fetch(
            "SELECT id, content FROM engram.memory WHERE id = ANY ($1) AND state = 'active'",
            list(accepted),
        )
        found = {row["id"]: row["content"] for row in rows}
        lost = {one for one, text in accepted.items() if found.get(one) != text}
        assert not lost, f"{len(lost)} of {len(accepted)} are lost or have another text"

    async def each_has_one(self, *spaces: int, workspaces: Sequence[UUID] | None = None) -> None:
        """I2, I6: every live memory has its current vector in each space, or is a dead letter."""
        for space in spaces:
            missing = await self.sql.fetch(
                f"SELECT m.id FROM engram.memory m LEFT JOIN engram_vec.space_{space} v "
                "ON v.workspace = m.workspace AND v.memory_id = m.id AND v.version = m.version "
                "LEFT JOIN engram.embedding_failure f ON f.memory_id = m.id AND f.space = $1 "
                "AND f.version = m.version AND f.dead "
                "WHERE m.state = 'active' AND v.memory_id IS NULL AND f.memory_id IS NULL "
                "AND ($2::uuid[] IS NULL OR m.workspace = ANY ($2))",
                *(space, workspaces),
            )
            assert not missing, f"{len(missing)} lack their vector in space {space}"

    async def none_stale(self, *spaces: int) -> None:
        """I3: no vector of another version, of another namespace, or of a memory not live."""
        for space in spaces:
            wrong = await self.sql.fetch(
                f"SELECT v.memory_id, v.version, m.version AS present, m.state "
                f"FROM engram_vec.space_{space} v LEFT JOIN engram.memory m "
                "ON m.workspace = v.workspace AND m.id = v.memory_id "
                "WHERE m.id IS NULL OR m.state <> 'active' OR abs(v.version) <> m.version "
                "OR v.namespace <> m.namespace"
            )
            assert not wrong, f"space {space}: {[dict(row) for row in wrong[:3]]}"

    async def none_of_other_texts(self, space: int, right: Callable[[str], Vector]) -> None:
        """I3: each vector is that of its memory's text."""
        rows = await self.sql.fetch(
            f"SELECT m.id, m.content, v.embedding::text AS numbers "
            f"FROM engram_vec.space_{space} v JOIN engram.memory m ON m.id = v.memory_id "
            "WHERE v.version = m.version"
        )
        for row in rows:
            stored = np.fromstring(row["numbers"].strip("[]"), sep=",")
            error = float(np.abs(stored - right(row["content"])).max())
            assert error < _ROUNDING, f"{row['id']} has the vector of another text in {space}"

    async def none_revived(self, deleted: Collection[UUID]) -> None:
        """I4: what was deleted is a tombstone without text, and has no vector in any space."""
        alive = await self.sql.fetchval(
            "SELECT count(*) FROM engram.memory "
            "WHERE id = ANY ($1) AND (state <> 'deleted' OR content <> '')",
            list(deleted),
        )
        assert alive == 0, f"{alive} deleted memories are back"
        for space in await self.tables():
            left = await self.sql.fetchval(
                f"SELECT count(*) FROM engram_vec.space_{space} WHERE memory_id = ANY ($1)",
                list(deleted),
            )
            assert left == 0, f"{left} vectors of deleted memories in space {space}"

    async def tables(self) -> list[int]:
        """Return the ids of the spaces that have a table."""
        rows = await self.sql.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'engram_vec' AND c.relkind = 'r' ORDER BY 1"
        )
        return [int(row["relname"].removeprefix("space_")) for row in rows]

    async def pointers_are_sound(self) -> None:
        """I7: what is read is an active space with a table, and nothing is left in mid-cutover."""
        wrong = await self.sql.fetch(
            "SELECT w.id, n.name FROM engram.workspace w "
            "LEFT JOIN engram.namespace n ON n.workspace = w.id "
            "LEFT JOIN engram.space s ON s.id = coalesce(n.read_space, w.read_space) "
            "WHERE s.state IS DISTINCT FROM 'active' OR n.phase = 'cutting'"
        )
        assert not wrong, f"{len(wrong)} pointers are wrong: {dict(wrong[0])}"
        tables = set(await self.tables())
        read = await self.sql.fetch(
            "SELECT DISTINCT coalesce(n.read_space, w.read_space) AS space FROM engram.workspace w "
            "LEFT JOIN engram.namespace n ON n.workspace = w.id"
        )
        assert {row["space"] for row in read} <= tables

    async def all(
        self,
        spaces: Sequence[int],
        accepted: Mapping[UUID, str] | None = None,
        deleted: Collection[UUID] = (),
        right: Mapping[int, Callable[[str], Vector]] | None = None,
    ) -> None:
        """Check everything at once, of a store that has come to rest."""
        await self.nothing_lost(accepted or {})
        await self.each_has_one(*spaces)
        await self.none_stale(*spaces)
        await self.none_revived(deleted)
        await self.pointers_are_sound()
        for space, of_text in (right or {}).items():
            await self.none_of_other_texts(space, of_text)


@dataclass
class Reads:
    """I7 from a client's side: every answer comes from one space, and is complete.

    Attributes:
        right: computes the vector of a text, by the public name of each space.
        spaces: how many answers came from each.
    """

    right: Mapping[str, Callable[[str], Vector]]
    spaces: dict[str, int] = field(default_factory=dict)
    degraded: int = 0

    def note(self, query: str, answer: Mapping[str, Any], standing: Iterable[str] = ()) -> None:
        """Check one answer of a search.

        Args:
            query: as it was asked.
            answer: the JSON of the answer.
            standing: ids that were embedded before and not touched since: they must be found.
        """
        found = {result["memory"]["id"] for result in answer["results"]}
        lost = set(standing) - found
        assert not lost, f"{len(lost)} of the memories found before are not found any more"
        space = answer["space"]
        self.spaces[space] = self.spaces.get(space, 0) + 1
        if answer["degraded"]:
            self.degraded += 1
            return
        asked = self.right[space](query)
        for result in answer["results"]:
            cosine = float(asked @ self.right[space](result["memory"]["content"]))
            mixed = abs(cosine - result["score"]) > _ROUNDING
            assert not mixed, f"{space} answered {result['score']}, its own vectors say {cosine}"
