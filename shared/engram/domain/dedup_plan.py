"""What is to be done about near memories of one scope: whom to merge, what to leave to a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from engram.domain.dedup_classes import Classes, Text
from engram.domain.dedup_decision import Action, Decision, Thresholds, decide
from engram.domain.dedup_near import Near, nearest
from engram.domain.groups import Link, Member, Settlement, linked_groups, settle
from engram.domain.guard import Difference, Kind, Verdict, examine
from engram.domain.merging import disagreeing

Json = dict[str, Any]
IdPair = tuple[UUID, UUID]
# What one memory is shown beside at most: a person reads ten proposals, not a thousand.
_MOST_FINDINGS: Final = 10
UNCALIBRATED: Final = "uncalibrated"
"""The reason of proposals that would be merges, if their space had been calibrated."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one scope comes to, as JSON values.

    Attributes:
        merges: ``{"survivor", "version", "members": [{"id", "version", "cosine", "guard"}]}``.
        proposals, conflicts: ``{"one", "other", "cosine", "reason", "guard", "survivor"}``, where
            the two are ``[id, version]``.
        counts: pairs read, by what was decided, and what was left out.
    """

    merges: list[Json] = field(default_factory=list)
    proposals: list[Json] = field(default_factory=list)
    conflicts: list[Json] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Plan) -> None:
        """Add what another scope comes to."""
        self.merges.extend(other.merges)
        self.proposals.extend(other.proposals)
        self.conflicts.extend(other.conflicts)
        self.counts.update(other.counts)

    def as_json(self) -> Json:
        """Return it as JSON values."""
        return {
            "merges": self.merges,
            "proposals": self.proposals,
            "conflicts": self.conflicts,
            "counts": dict(self.counts),
        }

    @property
    def absorbed(self) -> int:
        """How many memories would be absorbed."""
        return sum(len(merge["members"]) for merge in self.merges)


@dataclass(frozen=True, slots=True)
class _Read:
    """Two classes that were read, a < b."""

    a: int
    b: int
    decision: Decision
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Texts of near memories in classes of equal ones, and which classes are near.

    Attributes:
        pairs: classes (a, b), a < b, with the cosine of those who speak for them.
        left_out: pairs that were too many.
    """

    near: Near
    classes: Classes
    pairs: list[tuple[int, int, float]]
    left_out: int

    @classmethod
    def of(cls, near: Near, texts: Mapping[int, Text], thresholds: Thresholds) -> Comparison:
        """Bring equal texts together and find which of the others are near.

        Args:
            near: the vectors.
            texts: of the rows that `Near.rows` named, where they are still what was embedded.
            thresholds: of the space.
        """
        classes = Classes.of(near, texts, thresholds.merge)
        found, left_out = near.class_pairs(classes.of_row, len(classes.heads))
        heads = np.array(classes.heads, dtype=np.int64)
        cosines = near.cosines(heads[found[:, 0]], heads[found[:, 1]])
        reached = cosines >= thresholds.propose
        found, cosines = found[reached], cosines[reached]
        kept = nearest(found, cosines)
        pairs = [
            (int(a), int(b), float(cosine))
            for (a, b), cosine in zip(found[kept], cosines[kept], strict=True)
        ]
        return cls(near, classes, pairs, near.left_out + left_out + int((~kept).sum()))

    def doubtful(self) -> list[tuple[Text, Text]]:
        """Return the pairs about which a person may have decided: ask before reading on."""
        said = [(self._head(a), self._head(b)) for a, b, _ in self.pairs]
        return [(a, b) for a, b in said if a.decided and b.decided]

    def plan(self, settled: Collection[IdPair], thresholds: Thresholds) -> Plan:
        """Read the texts, decide on each pair and on whom to merge; a millisecond a pair.

        Args:
            settled: pairs of ids, ascending, that stay as they are.
            thresholds: of the space.
        """
        read = [one for one in self._read(thresholds) if self._ids(one.a, one.b) not in settled]
        plan = Plan(counts=Counter(one.decision.action.value for one in read))
        plan.counts.update({"pairs": len(read), "left_out": self.left_out})
        links = {(one.a, one.b): one for one in read if one.decision.action is Action.MERGE}
        gone: set[int] = set()
        for group in self._groups(links):
            if thresholds.may_merge:
                self._merge(group, links, plan, gone)
            else:
                plan.proposals.extend(self._alike(group[0]))
        for one in read:
            if one.a not in gone and one.b not in gone:
                self._find(one, plan)
        plan.proposals[:] = _few(plan.proposals, plan.counts)
        plan.conflicts[:] = _few(plan.conflicts, plan.counts)
        return plan

    def _head(self, number: int) -> Text:
        return self.classes.texts[self.classes.heads[number]]

    def _ids(self, a: int, b: int) -> IdPair:
        one, other = self._head(a).id, self._head(b).id
        return (one, other) if one < other else (other, one)

    def _read(self, thresholds: Thresholds) -> Iterable[_Read]:
        for a, b, cosine in self.pairs:
            one, other = self._head(a), self._head(b)
            verdict = examine(one.content, other.content)
            made = decide(cosine, verdict, thresholds)
            less = "less_alike" if thresholds.may_merge else UNCALIBRATED
            reason = str(made.reason or ("unexplained" if not verdict.proves else less))
            if made.action is Action.MERGE and disagreeing((one.metadata, other.metadata)):
                made, reason = _proposed(made), "metadata"
            yield _Read(a, b, made, verdict, reason)

    def _groups(self, links: Mapping[tuple[int, int], _Read]) -> list[list[int]]:
        """Return classes that merge with one another, and classes that merge within themselves."""
        number = {self._head(a).id: a for a in range(len(self.classes.heads))}
        found = linked_groups(
            Link(self._head(a).id, self._head(b).id, one.decision.cosine, _kind(one))
            for (a, b), one in links.items()
        )
        groups = [[number[memory] for memory in group] for group in found]
        grouped = {one for group in groups for one in group}
        return groups + [[one] for one in self.classes.doubled if one not in grouped]

    def _merge(
        self, group: list[int], links: Mapping[tuple[int, int], _Read], plan: Plan, gone: set[int]
    ) -> None:
        settled = self._settled(group, links)
        survivor = self.classes.number_of(settled.survivor)
        absorbed = [self.classes.number_of(memory) for memory in settled.absorbed]
        head, said = self.classes.heads[survivor], self._head(survivor)
        rows = [
            (row, number)
            for number in (survivor, *absorbed)
            for row in self.classes.members[number]
            if row != head
        ]
        free = [(row, number) for row, number in rows if not self.classes.texts[row].pinned]
        cosines = self.near.cosines(
            np.array([row for row, _ in rows], dtype=np.int64), np.full(len(rows), head)
        )
        cosine_of = {row: float(cosine) for (row, _), cosine in zip(rows, cosines, strict=True)}
        if free:
            members = [
                {
                    "id": self.classes.texts[row].id.hex,
                    "version": self.classes.texts[row].version,
                    "cosine": cosine_of[row],
                    "guard": self._ground(survivor, number, links),
                }
                for row, number in sorted(free)
            ]
            merge = {"survivor": said.id.hex, "version": said.version, "members": members}
            plan.merges.append(merge)
        gone.update(absorbed)
        for row, _ in rows:
            if self.classes.texts[row].pinned:
                found = _finding(said, self.classes.texts[row], cosine_of[row], "pinned", {})
                plan.proposals.append({**found, "survivor": None})
        self._leave_apart(survivor, settled, links, plan)

    def _alike(self, number: int) -> Iterable[Json]:
        """Yield proposals for the memories of one class, where nothing may be merged."""
        head = self.classes.heads[number]
        rows = [row for row in self.classes.members[number] if row != head]
        cosines = self.near.cosines(np.array(rows, dtype=np.int64), np.full(len(rows), head))
        evidence = _evidence(Verdict(Kind.SAME))
        for row, cosine in zip(rows, cosines, strict=True):
            one, other = self._head(number), self.classes.texts[row]
            found = _finding(one, other, float(cosine), UNCALIBRATED, evidence)
            yield {**found, "survivor": None}

    def _settled(self, group: list[int], links: Mapping[tuple[int, int], _Read]) -> Settlement:
        heads = [self._head(number) for number in group]
        if len(heads) == 1:
            return Settlement(heads[0].id, (), ())
        inside = set(group)
        found = settle(
            [Member(h.id, h.importance, _time(h), _time(h), pinned=h.pinned) for h in heads],
            [
                Link(self._head(a).id, self._head(b).id, one.decision.cosine, _kind(one))
                for a in group
                for b in inside
                if (one := links.get((a, b))) is not None
            ],
        )
        if found is None:  # pragma: no cover - every head is active
            return Settlement(heads[0].id, (), ())
        return found

    def _leave_apart(
        self,
        survivor: int,
        settled: Settlement,
        links: Mapping[tuple[int, int], _Read],
        plan: Plan,
    ) -> None:
        for memory in settled.apart:
            number = self.classes.number_of(memory)
            link = links[min(survivor, number), max(survivor, number)]
            said, other = self._head(survivor), self._head(number)
            reason = "pinned" if other.pinned else "not_contained"
            found = _finding(said, other, link.decision.cosine, reason, _evidence(link.verdict))
            plan.proposals.append({**found, "survivor": None})

    def _ground(self, survivor: int, number: int, links: Mapping[tuple[int, int], _Read]) -> Json:
        """Return why the guard lets a class go into the survivor: rules, never words."""
        if survivor == number:
            return {"kind": Kind.SAME.value, "rules": []}
        verdict = links[min(survivor, number), max(survivor, number)].verdict
        rules = sorted({difference.rule for difference in verdict.explained})
        return {"kind": verdict.kind.value, "rules": rules}

    def _find(self, one: _Read, plan: Plan) -> None:
        where = {Action.PROPOSE: plan.proposals, Action.CONFLICT: plan.conflicts}
        if one.decision.action not in where:
            return
        a, b = self._head(one.a), self._head(one.b)
        found = _finding(a, b, one.decision.cosine, one.reason, _evidence(one.verdict))
        stays = {"a": a.id.hex, "b": b.id.hex, None: None}[one.decision.survivor]
        where[one.decision.action].append({**found, "survivor": stays})


def _finding(one: Text, other: Text, cosine: float, reason: str, evidence: Json) -> Json:
    return {
        "one": [one.id.hex, one.version],
        "other": [other.id.hex, other.version],
        "cosine": cosine,
        "reason": reason,
        "guard": evidence,
    }


def _evidence(verdict: Verdict) -> Json:
    return {
        "kind": verdict.kind.value,
        "reason": None if verdict.reason is None else verdict.reason.value,
        "explained": [_said(difference) for difference in verdict.explained],
        "unexplained": [_said(difference) for difference in verdict.unexplained],
    }


def _said(difference: Difference) -> Json:
    return {"rule": difference.rule, "a": difference.a, "b": difference.b}


def _proposed(made: Decision) -> Decision:
    return Decision(
        Action.PROPOSE, made.cosine, made.guard, made.reason, made.rule_version, made.survivor
    )


def _kind(one: _Read) -> Kind:
    """Return the kind of a link, whose sides stand in the order of the verdict."""
    return one.verdict.kind


def _time(text: Text) -> datetime:
    return datetime.fromtimestamp(text.created_at_s, UTC)


def _few(found: Sequence[Json], counts: Counter[str]) -> list[Json]:
    """Keep for each memory those nearest to it, each pair once."""
    seen: defaultdict[str, int] = defaultdict(int)
    pairs: set[tuple[str, str]] = set()
    kept = []
    for one in sorted(found, key=lambda one: (-one["cosine"], one["one"], one["other"])):
        a, b = one["one"][0], one["other"][0]
        pair = (min(a, b), max(a, b))
        if pair in pairs:
            continue
        if seen[a] >= _MOST_FINDINGS or seen[b] >= _MOST_FINDINGS:
            counts["left_out"] += 1
            continue
        pairs.add(pair)
        seen[a] += 1
        seen[b] += 1
        kept.append(one)
    return kept
