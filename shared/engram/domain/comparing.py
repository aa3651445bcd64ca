"""When a memory in a file and a memory in the store are the same: rules of `engram compare`."""

import hashlib
import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from engram.domain.memory import NewMemory, State

# What is compared, in the order of the digest. Access and reinforcement change by being used, and
# `updated_at` by every sweep: they make no difference.
FIELDS = (
    *("content", "namespace", "user_id", "agent_id", "session_id", "app_id", "metadata"),
    *("categories", "importance", "pinned", "expires_at", "valid_until", "created_at"),
)
_WIDTH_BYTES = 4
_UNSAID = bytes(_WIDTH_BYTES)
_NONE = b"none"
_EXACT = 1 << 64


def names_of(memory: NewMemory) -> tuple[bytes, ...]:
    """Return the names a memory is found by, best first: 16 bytes each, never none.

    Its source and external id, then the id that an engram gave it.
    """
    named = []
    if memory.external_id is not None:
        named.append(_hash(f"e\0{memory.source}\0{memory.external_id}", 16))
    if memory.id is not None:
        named.append(_hash(f"i\0{memory.id}", 16))
    return tuple(named)


def digest(memory: NewMemory) -> bytes:
    """Return 4 bytes of BLAKE2b for each of `FIELDS`; zeros for a creation time that is not said.

    Two different values agree by chance once in four thousand million.
    """
    return b"".join(_field_digest(name, getattr(memory, name)) for name in FIELDS)


def differing(in_file: bytes, in_store: bytes) -> list[str]:
    """Return the fields in which two digests differ; what the file does not say agrees."""
    found = []
    for position, name in enumerate(FIELDS):
        at = slice(position * _WIDTH_BYTES, (position + 1) * _WIDTH_BYTES)
        if in_file[at] != in_store[at] and in_file[at] != _UNSAID:
            found.append(name)
    return found


def states_agree(in_file: State, in_store: State) -> bool:
    """Say whether the store keeps what the file says of a memory's life.

    A live memory may have been absorbed by its like, or have faded, since: it is not lost.
    """
    return in_file == in_store or (in_file == "active" and in_store in ("merged", "archived"))


def _field_digest(name: str, value: Any) -> bytes:
    if name == "created_at" and value is None:
        return _UNSAID
    if value is None:
        return _NONE
    made = _hash(_canonical(value), _WIDTH_BYTES)
    return b"\1" + made[1:] if made == _UNSAID else made


def _hash(text: str, width_bytes: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=width_bytes).digest()


def _canonical(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}'
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Return a JSON value with its numbers as Postgres keeps them: 1.0 and 1 are one number."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
        return float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        # By its shortest decimal text, which is what was sent: 5.2e16 is 52000000000000000.
        return int(Decimal(repr(value)))
    return value
