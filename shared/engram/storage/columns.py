"""Turns rows into the arrays that statements unnest, each as short as it can be said.

asyncpg asks of every element of an array whether it is an array itself: that was a sixth of the CPU
of ingest. A column that says the same in all rows therefore goes as that one value: ``unnest``
fills it up with NULL, and the statement takes the first one, ``coalesce(r.x, ($4::text[])[1])``.
"""

from collections.abc import Sequence
from typing import Any


def brief(column: Sequence[Any], *, filled: bool) -> Sequence[Any]:
    """Shorten a column whose values are all alike.

    ``unnest`` fills up with NULL, and the statement with the first value where a column is never
    NULL (``filled``). Each array costs as much to encode, to send and to unnest as it is long:
    for a batch that knows few fields, half of the time of writing it.
    """
    first = column[0]
    if first is None:
        return column if any(value is not None for value in column) else ()
    alike = filled and column[-1] == first and column.count(first) == len(column)
    return column[:1] if alike else column


def filled_columns(rows: Sequence[tuple[Any, ...]]) -> list[Sequence[Any]]:
    """Return the columns of one or more rows without NULL; rows that are all equal become one."""
    return [brief(column, filled=True) for column in zip(*rows, strict=True)]
