"""What becomes of a memory as it arrives: new, a repeat, known already, changed, or refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from engram.domain.memory import NewMemory, State, hashes
from engram.domain.revising import Fields, changes_of, fields_of, state_after

Strategy = Literal["create", "skip", "merge", "replace"]
Owners = tuple[str | None, str | None, str | None, str | None]
FoldKey = tuple[UUID, str, Owners, bytes]
ExternalKey = tuple[UUID, str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the items of an import are meant, beyond the strategy.

    Attributes:
        job: the import job they belong to, None for what is answered at once.
        revive: an item that names a tombstone is stored anew instead of skipped.
        namespace: with ``replace``, the namespace that is taken over.
        source: with ``replace`` and no namespace, the source that is taken over.
    """

    job: UUID | None = None
    revive: bool = False
    namespace: str | None = None
    source: str | None = None

    def covers(self, namespace: str, source: str) -> bool:
        """Say whether a replacement takes over what stands in this namespace and source."""
        if self.namespace is not None:
            return namespace == self.namespace
        return source == self.source


_NO_PLAN = Plan()


@dataclass(slots=True)
class Arriving:
    """One item on its way in.

    Attributes:
        id: the id it gets when it becomes a row of its own.
        strategy: ``create`` reports a clash of external ids, ``skip`` leaves what is there,
            ``merge`` changes it, ``replace`` stages a new set beside it.
        given: fields that the item itself names; only these may change what is there.
    """

    workspace: UUID
    id: UUID
    memory: NewMemory
    fold: bytes
    sha256: bytes
    strategy: Strategy
    created_at: datetime
    updated_at: datetime
    given: frozenset[str] = frozenset()
    plan: Plan = _NO_PLAN

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

    @property
    def named_ids(self) -> tuple[UUID, ...]:
        """The ids that a record of another engram names: its own, and that of its survivor."""
        return tuple(one for one in (self.memory.id, self.memory.merged_into) if one is not None)


# Not frozen, as Arriving: one is made for each item, and freezing it costs twice the making.
@dataclass(slots=True)
class Known:
    """What the store (or an earlier item of the same batch) already holds.

    Attributes:
        fields: the values that a merge compares, read for ``merge`` and ``replace`` only.
        namespace: where it stands, and ``source`` whose it is; read with the fields.
        merged_into: the memory that absorbed it.
        staged: it belongs to the set that this very import loads.
    """

    id: UUID
    version: int
    state: State
    sha256: bytes
    fields: Fields | None = None
    namespace: str = ""
    source: str = ""
    merged_into: UUID | None = None
    staged: bool = False


Kind = Literal["insert", "absorb", "fold", "present", "clash", "deleted", "update", "keep"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one arriving item.

    Attributes:
        kind: ``insert`` a new row; ``absorb`` insert it born merged into ``target``; ``fold`` let
            ``target`` answer for it; ``present`` its external id is known, nothing to do;
            ``clash`` the external id is known with other content; ``deleted`` it names a tombstone;
            ``update`` change ``target``; ``keep`` the replaced set goes on holding ``target``.
        target: the memory that answers, None for ``insert``.
        restores: ``target`` is archived and comes back through this repeat.
        renames: the memory that loses its external id to this new row.
        changes: new values by field, ``state`` among them, for ``update``.
    """

    kind: Kind
    target: Known | None = None
    restores: bool = False
    renames: Known | None = None
    changes: Mapping[str, Any] | None = None


Decided = tuple[tuple[Arriving, str], Decision]
"""An item, who brings it, and what becomes of it."""

# What becomes of most items: one object says it for all of them.
_INSERT = Decision("insert")


def arriving(
    workspace: UUID,
    new_id: UUID,
    memory: NewMemory,
    strategy: Strategy,
    now: datetime,
    given: frozenset[str] = frozenset(),
    plan: Plan = _NO_PLAN,
) -> Arriving:
    """Return the item with its hashes computed and its times set."""
    created = memory.created_at or now
    updated = memory.updated_at or created
    fold, sha256 = hashes(memory.content)
    if strategy == "replace" and memory.external_id is None and memory.id is not None:
        memory = replace(memory, external_id=str(memory.id))
    # What is there keeps its id, a tombstone too: what comes in its place is known by its name.
    renewed = strategy == "replace" or (plan.revive and memory.external_id is not None)
    own_id = new_id if memory.id is None or renewed else memory.id
    return Arriving(
        workspace, own_id, memory, fold, sha256, strategy, created, updated, given, plan
    )


class Arrivals:
    """Decides items in order, remembering each decision for the items that follow.

    Args:
        by_external: the stored memory behind each external id of the batch.
        by_fold: the stored active or archived memory behind each fold key of the batch; for
            ``replace`` those of the set that is being loaded.
        now: what has expired by then is not repeated but stored anew.
        by_id: the stored memory behind each id that a record of another engram names.
    """

    def __init__(
        self,
        by_external: Iterable[tuple[ExternalKey, Known]],
        by_fold: Iterable[tuple[FoldKey, Known]],
        now: datetime,
        by_id: Iterable[tuple[tuple[UUID, UUID], Known]] = (),
    ) -> None:
        self._now = now
        self._by_id = dict(by_id)
        self._by_external = dict(by_external)
        self._by_fold = dict(by_fold)
        # Their text is another by now: nothing is a repeat of what they said.
        self._changed: set[UUID] = set()

    @property
    def empty(self) -> bool:
        """Whether nothing at all is known."""
        return not (self._by_external or self._by_fold or self._by_id)

    def decide(self, item: Arriving) -> Decision:
        """Return what becomes of ``item``."""
        named = self._named(item)
        if named is not None:
            return self._known_name(named, item)
        return self._new_name(item, None)

    def _named(self, item: Arriving) -> Known | None:
        key = item.external_key
        named = self._by_external.get(key) if key else None
        if named is None and item.memory.id is not None:
            named = self._by_id.get((item.workspace, item.memory.id))
        return named

    def _new_name(self, item: Arriving, renames: Known | None) -> Decision:
        decision = self._new_row(item, renames)
        if decision.kind in ("insert", "absorb"):
            self._remember(item, self._as_known(item, decision))
        return decision

    def _remember(self, item: Arriving, known: Known) -> None:
        if item.external_key is not None:
            self._by_external[item.external_key] = known
        if item.memory.id is not None:
            self._by_id[item.workspace, item.memory.id] = known

    def _as_known(self, item: Arriving, decision: Decision) -> Known:
        state: State = item.memory.state if decision.kind == "insert" else "merged"
        fields = fields_of(item.memory) if item.strategy in ("merge", "replace") else None
        memory = item.memory
        into = decision.target.id if decision.target else None
        return Known(
            item.id, 1, state, item.sha256, fields, memory.namespace, memory.source, into,
            staged=item.strategy == "replace",
        )  # fmt: skip

    def _new_row(self, item: Arriving, renames: Known | None) -> Decision:
        if item.memory.merged_into is not None:
            absorbed = self._merged_record(item, item.memory.merged_into, renames)
            if absorbed is not None:
                return absorbed
        # A record of another engram is taken as it is: that store has folded its repeats.
        if item.memory.state != "active" or item.memory.id is not None:
            return _inserted(renames)
        repeated = self._by_fold.get(item.fold_key)
        if repeated is None or repeated.id in self._changed:
            expires_at = item.memory.expires_at
            if expires_at is None or expires_at > self._now:
                self._by_fold[item.fold_key] = Known(item.id, 1, "active", item.sha256)
            return _inserted(renames)
        restores = repeated.state == "archived"
        if restores:
            self._by_fold[item.fold_key] = replace(repeated, state="active")
        kind: Kind = "absorb" if item.external_key else "fold"
        return Decision(kind, repeated, restores, renames)

    def _merged_record(
        self, item: Arriving, survivor_id: UUID, renames: Known | None
    ) -> Decision | None:
        survivor = self._by_id.get((item.workspace, survivor_id))
        if survivor is None and item.strategy != "replace":
            # An export is ordered by id: the survivor may come later, and keeps its id.
            survivor = Known(survivor_id, 1, "active", b"")
        if survivor is None:
            return None
        if survivor.state == "deleted":
            # What is deleted took with it what it had absorbed.
            return Decision("deleted", survivor)
        return Decision("absorb", survivor, renames=renames)

    def _known_name(self, named: Known, item: Arriving) -> Decision:
        if named.state == "deleted":
            if item.plan.revive and item.external_key is not None:
                return self._new_name(item, named)
            return Decision("deleted", named)
        if item.strategy == "merge":
            return self._merge(named, item)
        if item.strategy == "replace":
            return self._replace(named, item)
        return Decision("present", named) if item.strategy == "skip" else self._again(named, item)

    def _again(self, named: Known, item: Arriving) -> Decision:
        if named.sha256 != item.sha256:
            return Decision("clash", named)
        if named.state == "archived" and item.external_key:
            self._remember(item, replace(named, state="active"))
            return Decision("fold", named, restores=True)
        return Decision("present", named)

    def _merge(self, named: Known, item: Arriving) -> Decision:
        changes = self._changes(named, item)
        if not changes:
            return Decision("present", named)
        says_new = named.sha256 != item.sha256
        if says_new:
            self._changed.add(named.id)
        state: State = changes.get("state", named.state)
        changed = replace(
            named,
            version=named.version + says_new,
            state=state,
            sha256=item.sha256,
            fields={**(named.fields or {}), **changes},
            merged_into=named.merged_into if state == "merged" else None,
        )
        self._remember(item, changed)
        return Decision("update", named, changes=changes)

    def _replace(self, named: Known, item: Arriving) -> Decision:
        if named.staged or not item.plan.covers(named.namespace, named.source):
            return Decision("present" if named.sha256 == item.sha256 else "clash", named)
        if self._is_kept(named, item):
            if named.state == "active":
                self._by_fold.setdefault(item.fold_key, named)
            self._remember(item, replace(named, staged=True))
            return Decision("keep", named)
        return self._new_name(item, named)

    def _is_kept(self, named: Known, item: Arriving) -> bool:
        if named.state == "merged":
            # The survivor answers for it, if the new set holds that too.
            kept = self._by_fold.get(item.fold_key)
            return named.sha256 == item.sha256 and (kept and kept.id) == named.merged_into
        return named.state == item.memory.state and not self._changes(named, item)

    def _changes(self, named: Known, item: Arriving) -> dict[str, Any]:
        says_new = named.sha256 != item.sha256
        changes = changes_of(named.fields or {}, item.memory, item.given)
        if says_new:
            changes["content"] = item.memory.content
        state = state_after(named.state, item.memory.state, says_new=says_new)
        if state != named.state:
            changes["state"] = state
        return changes


def _inserted(renames: Known | None) -> Decision:
    return _INSERT if renames is None else Decision("insert", renames=renames)


def decide_all(items: Sequence[Arriving], arrivals: Arrivals) -> list[Decision]:
    """Return one decision for each item, in order; afterwards ``arrivals`` is used up."""
    if arrivals.empty and _all_differ(items):
        return [_INSERT] * len(items)
    return [arrivals.decide(item) for item in items]


def _all_differ(items: Sequence[Arriving]) -> bool:
    # Nothing of one concerns another: most batches of a first import are so.
    memories = [item.memory for item in items]
    if any(memory.id is not None or memory.merged_into is not None for memory in memories):
        return False
    names = [memory.external_id for memory in memories if memory.external_id is not None]
    folds = {item.fold for item in items}
    return len(folds) == len(items) and len(set(names)) == len(names)
