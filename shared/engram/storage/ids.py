"""Ids as the driver's own kind of UUID: made, compared, hashed, shown and sent in C.

They are UUIDs like any other and equal to them. With Python's own, two microseconds of each memory
that is stored went into its id. Only orjson does not know them: show them with ``str``.
"""

from uuid import UUID

import uuid_utils
from asyncpg.pgproto import pgproto


def new_id() -> UUID:
    """Return a uuid v7: in order of time, so that new rows lie beside one another."""
    return pgproto.UUID(uuid_utils.uuid7().bytes)


def to_id(text: str) -> UUID:
    """Return the id that a text says.

    Raises:
        ValueError: it is no uuid.
    """
    return pgproto.UUID(text)
