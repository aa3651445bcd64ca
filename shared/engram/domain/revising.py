"""What a merge changes: the fields an item gives, compared with those that are stored."""

from collections.abc import Mapping
from typing import Any

from engram.domain.memory import NewMemory, State

Fields = Mapping[str, Any]
# What a merge may change besides content and state. Namespace, owners and names never change;
# access counts and times belong to the store.
REVISED = ("metadata", "categories", "importance", "pinned", "expires_at", "valid_until")


def fields_of(memory: NewMemory) -> dict[str, Any]:
    """Return the values of a memory that a merge compares."""
    return {name: getattr(memory, name) for name in REVISED}


def changes_of(stored: Fields, memory: NewMemory, given: frozenset[str]) -> dict[str, Any]:
    """Return what an item says differently, by field.

    Only what the item itself gives counts: a file that knows no importance leaves the one that is
    stored, and a value that was removed at its source stays.
    """
    changes: dict[str, Any] = {}
    for name in REVISED:
        if name in given:
            said = getattr(memory, name)
            if said is not None and said != stored.get(name):
                changes[name] = said
    return changes


def state_after(stored: State, said: State, *, says_new: bool) -> State:
    """Return the state of a stored memory after an item of an import has named it.

    A source may say that a memory no longer holds. Only a new text brings one back: that an old
    export calls it live says nothing.
    """
    if stored in ("deleted", "staged"):
        return stored
    if stored == "active" or says_new:
        return said
    return stored
