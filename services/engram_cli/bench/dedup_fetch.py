"""The part of ``engram bench dedup`` that reads its vectors from PostgreSQL, as the sweep does."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from engram.domain.spaces import parse_embedding
from engram.storage import dedup_vectors, keys
from engram.storage.connection import Pool, open_pool
from engram.storage.migrate import migrate
from engram.storage.spaces import create_space
from engram_cli.bench.dedup_vectors import DIMENSIONS, vectors
from engram_cli.bench.figures import Results, Target, progress
from engram_cli.runtime.postgres import PostgresServer
from engram_curator.dedup_process import Comparer

_TOGETHER: Final = Target(0.2, at_most=True)
_THRESHOLD: Final = 0.8
_SMALL_ROWS: Final = 100
# As the sweep claims them: small namespaces of about so many vectors share a statement.
_BATCH_ROWS: Final = 20_000
_LOADED_ROWS: Final = 10_000
# Vectors are made once and stored again and again in other namespaces.
_DISTINCT_ROWS: Final = 20_000
_NEW_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class _Taken:
    """Seconds of two ways over the same namespaces: read only, and read and joined."""

    read_s: float
    joined_s: float


async def measure(results: Results, rows: int, namespaces: int) -> None:
    """Measure a full pass, an increment of 1 %, and many small namespaces.

    Args:
        results: takes the figures.
        rows: of the large namespace.
        namespaces: of 100 vectors each.
    """
    with _open_folder() as folder:
        server = PostgresServer(folder)
        try:
            await server.start()
            async with _store(server) as bench:
                await bench.large(results, rows)
                await bench.small(results, namespaces)
        finally:
            await server.stop()


@contextmanager
def _open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
        # As root, PostgreSQL runs as another user, who has to get there.
        Path(folder).chmod(0o711)
        yield Path(folder)


@asynccontextmanager
async def _store(server: PostgresServer) -> AsyncIterator[_Fetching]:
    await migrate(server.database_url)
    login = await asyncpg.connect(server.database_url)
    try:
        spec = parse_embedding(f"null@{DIMENSIONS}")
        space = await create_space(login, spec, deterministic=True)
    finally:
        await login.close()
    async with await open_pool(server.database_url, "engram_worker", size=2, name="bench") as pool:
        async with pool.acquire() as connection:
            workspace = await keys.ensure_workspace(connection, "bench", space.id)
        sql = await asyncpg.connect(server.superuser_dsn("engram"))
        await register_vector(sql)
        comparer = Comparer()
        try:
            yield _Fetching(pool, sql, workspace, space.id, comparer)
        finally:
            await comparer.kill()
            await sql.close()


@dataclass(slots=True)
class _Fetching:
    """A store whose vectors are read."""

    pool: Pool
    sql: Any
    workspace: UUID
    space: int
    comparer: Comparer

    async def large(self, results: Results, rows: int) -> None:
        """One namespace: all pairs, then those with one of the newest hundredth."""
        with progress(f"storing {rows:,}"):
            await self._load(["large"], rows)
        with progress("reading and joining"):
            full = await self._pass([["large"]], rows, 0)
            newest = await self.sql.fetchval(f"SELECT max(seq) FROM engram_vec.space_{self.space}")
            new = await self._pass([["large"]], rows, newest - int(rows * _NEW_SHARE))
        results.add(f"{rows:,} read and joined", full.joined_s, "s", read_s=round(full.read_s, 3))
        results.add(
            f"1 % new of {rows:,}, read and joined", new.joined_s, "s", floor=full.joined_s,
            target=_TOGETHER, read_s=round(new.read_s, 3),
        )  # fmt: skip

    async def small(self, results: Results, count: int) -> None:
        """Many namespaces: what joining adds to reading them."""
        names = [f"small:{number:06}" for number in range(count)]
        with progress(f"storing {count:,} namespaces"):
            await self._load(names, _SMALL_ROWS)
        at_once = _BATCH_ROWS // _SMALL_ROWS
        batches = [names[begin : begin + at_once] for begin in range(0, count, at_once)]
        with progress("reading and joining"):
            taken = await self._pass(batches, at_once * _SMALL_ROWS, 0)
        results.add(
            f"{count:,} namespaces of {_SMALL_ROWS} read and joined", taken.joined_s, "s",
            floor=taken.read_s, read_s=round(taken.read_s, 3),
        )  # fmt: skip

    async def _pass(self, batches: Sequence[Sequence[str]], rows: int, seq: int) -> _Taken:
        await self._read(batches[0], _dropped)
        started = time.perf_counter()
        for names in batches:
            await self._read(names, _dropped)
        read_s = time.perf_counter() - started
        # The child is started and warm, as in a sweep that has been at it for a while.
        await self._compare(batches[0][:0], 1, seq)
        started = time.perf_counter()
        for names in batches:
            await self._compare(names, rows, seq)
        return _Taken(read_s, time.perf_counter() - started)

    async def _read(self, names: Sequence[str], take: Any) -> None:
        async with self.pool.acquire() as connection:
            await dedup_vectors.stream_vectors(connection, self.workspace, self.space, names, take)

    async def _compare(self, names: Sequence[str], rows: int, seq: int) -> None:
        await self.comparer.send(
            {
                "op": "near", "dimensions": DIMENSIONS, "rows": rows,
                "compared": [seq] * len(names), "thresholds": [_THRESHOLD, _THRESHOLD],
            }
        )  # fmt: skip
        await self._read(names, self.comparer.send_bytes)
        await self.comparer.send_bytes(b"")
        await self.comparer.ask()

    async def _load(self, names: Sequence[str], rows: int) -> None:
        made = await asyncio.to_thread(vectors, "texts", min(rows * len(names), _DISTINCT_ROWS))
        if rows > len(made):
            made = await asyncio.to_thread(vectors, "texts", rows)
        for begin in range(0, rows * len(names), _LOADED_ROWS):
            numbers = range(begin, min(begin + _LOADED_ROWS, rows * len(names)))
            stored = await self.sql.fetch(
                _MEMORIES, self.workspace, len(numbers), rows, begin, [*names]
            )
            await self.sql.copy_records_to_table(
                f"space_{self.space}",
                schema_name="engram_vec",
                columns=("workspace", "namespace", "memory_id", "version", "embedding"),
                records=[
                    (self.workspace, row["namespace"], row["id"], 1,
                     HalfVector(made[number % len(made)]))
                    for number, row in zip(numbers, stored, strict=True)
                ],
            )  # fmt: skip
        await self.sql.execute("VACUUM ANALYZE")


async def _dropped(_part: bytes) -> None:
    """Take a part and keep nothing of it."""


_MEMORIES: Final = """
INSERT INTO engram.memory (
    workspace, id, namespace, version, state, content, content_sha256, metadata, categories,
    importance, pinned, source, created_at, updated_at, versioned_at, versioned_by, reinforced_at)
SELECT $1, uuidv7(), ($5::text[])[1 + ($4::bigint + n) / $3::bigint], 1, 'active', 'text ' || n,
       '\\x00', '{}', '{}', 0.5, false, 'native', now(), now(), now(), 'bench', now()
FROM generate_series(0, $2::bigint - 1) AS n
ORDER BY n
RETURNING id, namespace
"""
