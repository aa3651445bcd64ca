"""Watches vectors arrive in the table of the space, at next to no cost for what is measured."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg

from engram.errors import UnavailableError
from engram.storage.connection import OwnConnection
from engram_cli.bench.figures import Step
from engram_cli.bench.stack import Stack

_POLL_S: Final = 0.02
_PATIENCE_S: Final = 120.0


class Arrivals:
    """Waits for vectors: the table's sequence says how many were written, a count that all are.

    Reading a sequence costs the same however large the table is. It runs ahead of commits, so it
    only tells when counting is worth while.
    """

    def __init__(self, stack: Stack, connection: OwnConnection, rows: int, numbers: int) -> None:
        self._stack = stack
        self._connection = connection
        self._rows = rows
        self._numbers = numbers

    @classmethod
    async def open(cls, stack: Stack) -> Arrivals:
        """Take what is there now as the beginning."""
        connection = await asyncpg.connect(
            stack.where.database_url, server_settings={"role": "engram_vec", "jit": "off"}
        )
        arrivals = cls(stack, connection, 0, 0)
        arrivals._rows, arrivals._numbers = await arrivals.rows(), await arrivals._given()
        return arrivals

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def grown_by(self, count: int, show: Step) -> None:
        """Return once ``count`` more vectors are committed than at the beginning.

        Raises:
            UnavailableError: none came for two minutes.
        """
        seen, changed_at = 0, time.monotonic()
        while True:
            given = await self._given() - self._numbers
            if given >= count and await self.rows() - self._rows >= count:
                return
            if given != seen:
                seen, changed_at = given, time.monotonic()
                show(min(given, count))
            if time.monotonic() - changed_at > _PATIENCE_S:
                raise UnavailableError(
                    "bench_stalled", f"Vectors stopped coming after {given:,} of {count:,}."
                )
            await asyncio.sleep(_POLL_S)

    async def rows(self) -> int:
        """Count the committed vectors."""
        return int((await self._stack.row("SELECT count(*) AS rows FROM {vectors}"))["rows"])

    async def _given(self) -> int:
        sequence = f"{self._stack.vectors}_seq_seq"
        return int(
            await self._connection.fetchval(
                f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"
            )
        )
