"""The clock of decay in the database: looked at by whoever sweeps, read by whoever asks."""

from datetime import datetime

from engram.domain.decay_clock import DecayClock, looked_at
from engram.storage.connection import Connection
from engram.storage.queries import statement


async def look(
    connection: Connection, last: datetime | None, elapsed_s: float
) -> tuple[DecayClock, float]:
    """Look at the database's clock and remember it.

    Args:
        connection: of the worker role, outside any transaction.
        last: the instant of this process's own last look; None at its first.
        elapsed_s: seconds since then by its steady clock.

    Returns:
        The clock, and by how many seconds it was found to have been set.
    """
    async with connection.transaction():
        await connection.execute(statement("decay", "start_clock"))
        [row] = await connection.fetch(statement("decay", "lock_clock"))
        known = DecayClock(row["seen_at"], row["withheld_s"])
        mine = elapsed_s if last == known.seen_at else None
        clock, set_by_s = looked_at(known, row["now"], mine)
        await connection.execute(statement("decay", "set_clock"), clock.seen_at, clock.withheld_s)
    return clock, set_by_s


async def read(connection: Connection) -> tuple[datetime, float]:
    """Return the instant that ages are counted to now, and the seconds that are withheld."""
    [row] = await connection.fetch(statement("decay", "read_clock"))
    return row["now"], row["withheld_s"]
