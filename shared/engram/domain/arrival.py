"""What becomes of a memory as it arrives: new, a repeat, known already, or refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from engram.domain.memory import NewMemory, State, content_hash, fold_hash

Strategy = Literal["create", "skip"]
Owners = tuple[str | None, str | None, str | None, str | None]
FoldKey = tuple[UUID, str, Owners, bytes]
ExternalKey = tuple[UUID, str, str]


@dataclass(frozen=True, slots=True)
class Arriving:
    """One item on its way in.

    Attributes:
        id: the id it gets when it becomes a row of its own.
        strategy: ``create`` reports a clash of external ids, ``skip`` leaves what is there.
    """

    workspace: UUID
    id: UUID
    memory: NewMemory
    fold: bytes
    sha256: bytes
    strategy: Strategy
    created_at: datetime
    updated_at: datetime

    @property
    def fold_key(self) -> FoldKey:
        """What two exact repeats share."""
        return self.workspace, self.memory.namespace, self.memory.owners, self.fold

    @property
    def external_key(self) -> ExternalKey | None:
        """The publisher's own name for it, if it gave one."""
        if self.memory.external_id is None:
            return None
        return self.workspace, self.memory.source, self.memory.external_id


@dataclass(frozen=True, slots=True)
class Known:
    """What the store (or an earlier item of the same batch) already holds."""

    id: UUID
    version: int
    state: State
    sha256: bytes


Kind = Literal["insert", "absorb", "fold", "present", "clash", "deleted"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one arriving item.

    Attributes:
        kind: ``insert`` a new row; ``absorb`` insert it born merged into ``target``; ``fold`` let
            ``target`` answer for it; ``present`` its external id is known, nothing to do;
            ``clash`` the external id is known with other content; ``deleted`` it names a tombstone.
        target: the memory that answers, None for ``insert``.
        restores: ``target`` is archived and comes back through this repeat.
    """

    kind: Kind
    target: Known | None = None
    restores: bool = False


def arriving(
    workspace: UUID, new_id: UUID, memory: NewMemory, strategy: Strategy, now: datetime
) -> Arriving:
    """Return the item with its hashes computed and its times set."""
    created = memory.created_at or now
    updated = memory.updated_at or created
    text = memory.content
    fold, sha256 = fold_hash(text), content_hash(text)
    return Arriving(workspace, new_id, memory, fold, sha256, strategy, created, updated)


class Arrivals:
    """Decides items in order, remembering each decision for the items that follow.

    Args:
        by_external: the stored memory behind each external id of the batch.
        by_fold: the stored active or archived memory behind each fold key of the batch.
        now: what has expired by then is not repeated but stored anew.
    """

    def __init__(
        self,
        by_external: Iterable[tuple[ExternalKey, Known]],
        by_fold: Iterable[tuple[FoldKey, Known]],
        now: datetime,
    ) -> None:
        self._now = now
        self._by_external = dict(by_external)
        self._by_fold = dict(by_fold)

    def decide(self, item: Arriving) -> Decision:
        """Return what becomes of ``item``."""
        key = item.external_key
        named = self._by_external.get(key) if key else None
        if named is not None:
            return self._known_name(named, item)
        decision = self._new_name(item)
        if key is not None and decision.kind in ("insert", "absorb"):
            state: State = item.memory.state if decision.kind == "insert" else "merged"
            self._by_external[key] = Known(item.id, 1, state, item.sha256)
        return decision

    def _new_name(self, item: Arriving) -> Decision:
        if item.memory.state != "active":
            return Decision("insert")
        repeated = self._by_fold.get(item.fold_key)
        if repeated is None:
            expires_at = item.memory.expires_at
            if expires_at is None or expires_at > self._now:
                self._by_fold[item.fold_key] = Known(item.id, 1, "active", item.sha256)
            return Decision("insert")
        restores = repeated.state == "archived"
        if restores:
            self._by_fold[item.fold_key] = replace(repeated, state="active")
        kind: Kind = "absorb" if item.external_key else "fold"
        return Decision(kind, repeated, restores)

    def _known_name(self, named: Known, item: Arriving) -> Decision:
        if named.state == "deleted":
            return Decision("deleted", named)
        if item.strategy == "skip":
            return Decision("present", named)
        if named.sha256 != item.sha256:
            return Decision("clash", named)
        if named.state == "archived" and item.external_key:
            self._by_external[item.external_key] = replace(named, state="active")
            return Decision("fold", named, restores=True)
        return Decision("present", named)


def decide_all(items: Sequence[Arriving], arrivals: Arrivals) -> list[Decision]:
    """Return one decision for each item, in order."""
    return [arrivals.decide(item) for item in items]
