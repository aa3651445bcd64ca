"""How right a set of decisions is on labelled pairs: false merges and recall, by category."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engram.domain.dedup_decision import Action, Decision


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """One pair of a file such as tests/data/memory-pairs.jsonl."""

    id: str
    a: str
    b: str
    label: Literal["duplicate", "distinct"]
    category: str
    survivor: Literal["a", "b"] | None = None


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """What was done with the pairs of one category."""

    label: str
    category: str
    pairs: int
    merged: int
    proposed: int
    conflicts: int
    wrong_survivors: int


@dataclass(frozen=True, slots=True)
class Score:
    """Figures over all pairs; a rate without anything to count is None.

    A merge is false if the pair is distinct, or if the wrong text of a containment survives.
    """

    merges: int
    false_merges: int
    false_merge_rate: float | None
    recall: float | None
    reached: float | None
    proposed_distinct: float | None
    categories: tuple[CategoryScore, ...]


def score(pairs: Sequence[LabelledPair], decisions: Mapping[str, Decision]) -> Score:
    """Compare decisions, by pair id, with the labels.

    `recall` is the share of duplicates merged rightly, `reached` the share merged or proposed,
    `proposed_distinct` the share of distinct pairs a person would have to look at.

    Raises:
        KeyError: a pair has no decision.
    """
    rows = _by_category(pairs, decisions)
    duplicate = [r for r in rows if r.label == "duplicate"]
    distinct = [r for r in rows if r.label == "distinct"]
    wrong = sum(r.wrong_survivors for r in duplicate)
    merges = sum(r.merged for r in rows)
    false = sum(r.merged for r in distinct) + wrong
    right = sum(r.merged for r in duplicate) - wrong
    return Score(
        merges=merges,
        false_merges=false,
        false_merge_rate=_rate(false, merges),
        recall=_rate(right, sum(r.pairs for r in duplicate)),
        reached=_rate(right + sum(r.proposed for r in duplicate), sum(r.pairs for r in duplicate)),
        proposed_distinct=_rate(sum(r.proposed for r in distinct), sum(r.pairs for r in distinct)),
        categories=tuple(rows),
    )


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _by_category(
    pairs: Sequence[LabelledPair], decisions: Mapping[str, Decision]
) -> list[CategoryScore]:
    seen: Counter[tuple[str, str]] = Counter()
    done: Counter[tuple[str, str, str]] = Counter()
    for pair in pairs:
        key = pair.label, pair.category
        decision = decisions[pair.id]
        seen[key] += 1
        done[*key, decision.action] += 1
        done[*key, "wrong"] += _wrong_survivor(pair, decision)
    return [
        CategoryScore(
            label, category, count, done[label, category, Action.MERGE],
            done[label, category, Action.PROPOSE], done[label, category, Action.CONFLICT],
            done[label, category, "wrong"],
        )
        for (label, category), count in sorted(seen.items())
    ]  # fmt: skip


def _wrong_survivor(pair: LabelledPair, decision: Decision) -> bool:
    """Whether the shorter text is kept, or nothing says which is: then a fact may be lost."""
    return (
        decision.action is Action.MERGE
        and pair.survivor is not None
        and decision.survivor != pair.survivor
    )
