"""A workspace on a real database to merge and undo in: storage calls, and SQL to check them."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from engram.domain.arrival import Decision, arriving
from engram.domain.memory import decode_item
from engram.domain.spaces import parse_embedding
from engram.storage import changing, dedup_runs, keys, merging, undoing
from engram.storage.connection import Pool, about, open_pool
from engram.storage.dedup_runs import Run
from engram.storage.inserting import insert_all
from engram.storage.merging import Applied, Cause, Group, Member
from engram.storage.spaces import create_space
from engram.storage.undoing import Undone

LEASE = timedelta(seconds=60)


@dataclass
class Workspace:
    """One workspace, seen as the API sees it (``pool``) and by a superuser (``sql``)."""

    pool: Pool
    id: UUID
    sql: asyncpg.Connection

    async def add(self, content: str, **fields: Any) -> UUID:
        """Store a memory as it arrives, without looking for repeats, and give it a vector."""
        memory = decode_item({"content": content, **fields})
        item = arriving(self.id, uuid7(), memory, "create", datetime.now(UTC))
        async with about(self.pool, [self.id]) as connection:
            await insert_all(connection, [((item, "test"), Decision("insert"))], datetime.now(UTC))
        await self.embed(item.id)
        return item.id

    async def embed(self, *ids: UUID) -> None:
        """Give memories a vector of their current version in space 1."""
        await self.sql.execute(
            "INSERT INTO engram_vec.space_1 (workspace, namespace, memory_id, version, embedding) "
            "SELECT workspace, namespace, id, version, array_fill(1, ARRAY[256])::halfvec "
            "FROM engram.memory WHERE workspace = $1 AND id = ANY ($2)",
            *(self.id, list(ids)),
        )

    async def group(self, survivor: UUID, *members: UUID) -> Group:
        """Return a group in the versions that its memories have now."""
        rows = await self.sql.fetch(
            "SELECT id, version FROM engram.memory WHERE id = ANY ($1)", [survivor, *members]
        )
        now = {row["id"]: row["version"] for row in rows}
        chosen = tuple(Member(one, now[one], 0.99, {"kind": "same"}) for one in members)
        return Group(survivor, now[survivor], chosen)

    async def apply(self, *groups: Group, cause: Cause | None = None) -> list[Applied]:
        """Merge groups in one transaction."""
        async with about(self.pool, [self.id]) as connection:
            return await merging.apply_groups(
                connection, cause or Cause(self.id, "test", reason="guard"), groups,
                datetime.now(UTC),
            )  # fmt: skip

    async def merge(self, survivor: UUID, *members: UUID, cause: Cause | None = None) -> UUID:
        """Merge memories as they are now and return the merge's id."""
        [done] = await self.apply(await self.group(survivor, *members), cause=cause)
        assert done.merge_id is not None, done
        return done.merge_id

    async def undo(self, merge_id: UUID, member: UUID | None = None) -> Undone:
        """Undo a merge, or one member of it."""
        async with about(self.pool, [self.id]) as connection:
            return await undoing.undo(
                connection, self.id, merge_id, actor="test", now=datetime.now(UTC), member=member
            )

    async def begin(self, merge_cap: int | None = None, lease: timedelta = LEASE) -> Run:
        """Begin a run, or join the one that runs."""
        async with about(self.pool, [self.id]) as connection:
            run, _ = await dedup_runs.begin(
                connection, self.id, actor="curator", options={}, rule_version="1",
                merge_cap=merge_cap, lease=lease,
            )  # fmt: skip
            return run

    async def undo_run(self, run_id: UUID) -> Undone:
        """Undo a whole run, some merges at a time."""
        total, more = Undone(), True
        while more:
            async with about(self.pool, [self.id]) as connection:
                done, more = await dedup_runs.undo_some(
                    connection, self.id, run_id, actor="test", now=datetime.now(UTC)
                )
            total.add(done)
        return total

    async def patch(self, memory_id: UUID, **changes: Any) -> int:
        """Change a memory and return its version."""
        async with about(self.pool, [self.id]) as connection:
            return await changing.change_memory(
                connection, self.id, memory_id, changes, if_version=None, actor="test",
                now=datetime.now(UTC),
            )  # fmt: skip

    async def delete(self, memory_id: UUID) -> int:
        """Erase a memory with what it absorbed; return how many tombstones that made."""
        async with about(self.pool, [self.id]) as connection:
            return await changing.delete_memory(
                connection, self.id, memory_id, if_version=None, actor="test",
                now=datetime.now(UTC),
            )  # fmt: skip

    async def dump(self) -> dict[UUID, dict[str, Any]]:
        """Return every column of every memory."""
        rows = await self.sql.fetch(
            "SELECT * FROM engram.memory WHERE workspace = $1 ORDER BY id", self.id
        )
        return {row["id"]: dict(row) for row in rows}

    async def one(self, memory_id: UUID) -> dict[str, Any]:
        """Return every column of one memory."""
        return (await self.dump())[memory_id]

    async def embedded(self) -> set[UUID]:
        """Return the memories that have a vector."""
        rows = await self.sql.fetch(
            "SELECT memory_id FROM engram_vec.space_1 WHERE workspace = $1", self.id
        )
        return {row["memory_id"] for row in rows}

    async def announced(self) -> list[tuple[str, set[str]]]:
        """Return what waits to be announced, as kinds with ids, in order, and forget it."""
        rows = await self.sql.fetch(
            "DELETE FROM engram.outbox WHERE workspace = $1 RETURNING id, subject, "
            "convert_from(payload, 'UTF8')::jsonb -> 'data' -> 'items' AS items", self.id
        )  # fmt: skip
        return [
            (row["subject"].rpartition(".")[2], {item["id"] for item in json.loads(row["items"])})
            for row in sorted(rows, key=lambda row: row["id"])
        ]


@contextlib.asynccontextmanager
async def open_workspace(database_url: str, superuser_url: str) -> AsyncIterator[Workspace]:
    """Open a workspace of its own on a migrated database, with space 1 of 256 dimensions."""
    login = await asyncpg.connect(database_url)
    space = await create_space(login, parse_embedding("hashing@256"), deterministic=True)
    await login.close()
    sql = await asyncpg.connect(superuser_url)
    async with (
        await open_pool(database_url, "engram_worker", size=1, name="test") as worker,
        await open_pool(database_url, "engram_api", size=4, name="test") as pool,
    ):
        async with worker.acquire() as connection:
            workspace = await keys.ensure_workspace(connection, uuid7().hex, space.id)
        try:
            yield Workspace(pool, workspace, sql)
        finally:
            await sql.close()
