"""Waits for what follows a large import: the index duty's builds, and vacuum."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from engram.domain.indexing import TAIL_ROWS
from engram.errors import UnavailableError
from engram.storage.connection import connect_owner
from engram_cli.bench.stack import Stack

_POLL_S: Final = 0.25
_PATIENCE_S: Final = 3_600.0
_WRITTEN: Final = ("memory", "memory_alias", "namespace", "outbox", "embedding_failure")

_DUE_NOW = "UPDATE engram.sweep SET next_due = now() WHERE name = 'index' AND next_due > now()"
# Rows that no ready index covers, whether a build runs, and namespaces whose count is not yet kept.
_OPEN = """
SELECT (SELECT count(*) FROM {vectors}
        WHERE seq > coalesce((SELECT max(seq_high) FROM engram.vector_index
                              WHERE state = 'ready' AND space = $1), 0)) AS tail,
       EXISTS (SELECT 1 FROM engram.vector_index WHERE state = 'building') AS building,
       (SELECT count(*) FROM engram.namespace n
        WHERE n.row_count * 2 < (SELECT count(*) FROM {vectors} v
                                 WHERE v.workspace = n.workspace AND v.namespace = n.name)
       ) AS uncounted
"""


async def quiet(stack: Stack) -> float:
    """Return when no index is being built, none is due and sizes are known; how long, in seconds.

    Raises:
        UnavailableError: it took more than an hour.
    """
    started = time.monotonic()
    while time.monotonic() - started < _PATIENCE_S:
        row = await stack.row(_OPEN, stack.space)
        if row["tail"] <= TAIL_ROWS and not row["building"] and not row["uncounted"]:
            return time.monotonic() - started
        await stack.pool.execute(_DUE_NOW)
        await asyncio.sleep(_POLL_S)
    raise UnavailableError("bench_stalled", "The vector indexes were not built within an hour.")


async def vacuumed(stack: Stack) -> None:
    """Vacuum and analyse the tables that an import writes, as autovacuum soon would."""
    connection = await connect_owner(stack.where.database_url)
    try:
        for table in _WRITTEN:
            await connection.execute(f"VACUUM (ANALYZE) engram.{table}")
        await connection.execute("SET ROLE engram_vec")
        await connection.execute("VACUUM (ANALYZE) engram_vec.space_1")
    finally:
        await connection.close()
