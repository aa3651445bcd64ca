"""Which calls of a client write, and what their arguments say before the answer is there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engram.dualwrite.answers import Told, scope_of
from engram.dualwrite.stores import OldStore

# Writes that name no memory, for which there is no mirror: they go through and are counted.
UNMIRRORED: Final = frozenset({"reset", "delete_users", "delete_user"})
_DELETES: Final = frozenset({"delete", "delete_all", "batch_delete"})
_BATCHES: Final = frozenset({"batch_update", "batch_delete"})
_ID_NAMES: Final = ("memory_id", "id", "uuid_", "uuid")


@dataclass(frozen=True, slots=True)
class Write:
    """One call that writes.

    Attributes:
        ids: the memories it names.
    """

    method: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    ids: tuple[str, ...]
    scope: Mapping[str, str]

    def told(self, store: OldStore, answer: Any) -> Told:
        """Return what the call did, by its answer."""
        if self.method in _DELETES:
            return Told(gone=self.ids)
        if self.ids:
            return Told(touched=self.ids)
        return store.told(self.method, self.named, answer)


def write_of(method: str, positional: Sequence[Any], named: Mapping[str, Any]) -> Write:
    """Describe a call of ``add``, ``update``, ``delete`` or a batch of them."""
    ids: tuple[str, ...] = ()
    if method in _BATCHES:
        listed = positional[0] if positional else named.get("memories") or ()
        ids = tuple(_id_in(one) for one in listed)
    elif method in ("update", "delete"):
        first = positional[0] if positional else _first(named)
        ids = () if first is None else (str(first),)
    return Write(method, tuple(positional), named, ids, scope_of(named))


def _first(named: Mapping[str, Any]) -> Any:
    return next((named[name] for name in _ID_NAMES if name in named), None)


def _id_in(entry: Any) -> str:
    return str(_first(entry) if isinstance(entry, Mapping) else entry)
