"""The stores a move may start from: one adapter each, and what an adapter must answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engram.dualwrite.answers import Told
from engram.dualwrite.flows import Flow

Row = dict[str, Any]


class OldStore(Protocol):
    """What the writer needs to know of the store it moves away from.

    Attributes:
        client: whose methods are called; they block, or all return awaitables.
        format: name of the format of imports in which its rows are (docs/import.md).
        source: of the memories in engram, the same that an import of its export gives them.
    """

    client: Any
    format: str
    source: str

    def told(self, method: str, arguments: Mapping[str, Any], answer: Any) -> Told:
        """Say which memories a write touched.

        Args:
            method: ``add``, or another write that names no memory.
            arguments: by name.
            answer: what the client returned.
        """
        ...

    def id_of(self, row: Mapping[str, Any]) -> str:
        """Return the id of a row."""
        ...

    def read(self, memory_id: str, scope: Mapping[str, str]) -> Flow[Row | None]:
        """Read one memory as an export would hold it; None when there is none.

        Args:
            memory_id: the store's own id.
            scope: owner ids of the write, for stores whose rows do not name their owner.
        """
        ...

    def rows(self, scope: Mapping[str, str]) -> Flow[Sequence[Row]]:
        """Read every memory of the owners in ``scope``."""
        ...

    def resolve(self, event_id: str) -> Flow[Told | None]:
        """Ask what came of work that was pending; None when the store cannot say."""
        ...
