"""Decisions, their score, and what the guard reaches on labelled pairs."""

import json
from pathlib import Path

import pytest

from engram.domain.dedup_decision import Action, Thresholds, decide
from engram.domain.dedup_score import LabelledPair, Score, score
from engram.domain.guard import Kind, Reason, Verdict, examine

DATA = Path(__file__).parents[1] / "data"
LIMITS = Thresholds(merge=0.8, propose=0.6)


def _pairs(name: str) -> list[LabelledPair]:
    rows = map(json.loads, (DATA / name).read_text("utf-8").splitlines())
    return [
        LabelledPair(r["id"], r["a"], r["b"], r["label"], r["category"], r.get("survivor"))
        for r in rows
    ]


def _scored(name: str) -> Score:
    """The guard alone: every pair is a candidate."""
    pairs = _pairs(name)
    made = {p.id: decide(1.0, examine(p.a, p.b), LIMITS) for p in pairs}
    return score(pairs, made)


@pytest.mark.parametrize(
    ("cosine", "verdict", "action"),
    [
        (0.9, Verdict(Kind.SAME), Action.MERGE),
        (0.7, Verdict(Kind.SAME), Action.PROPOSE),
        (0.5, Verdict(Kind.SAME), Action.DISTINCT),
        (float("nan"), Verdict(Kind.SAME), Action.DISTINCT),
        (0.99, Verdict(Kind.UNEXPLAINED), Action.PROPOSE),
        (0.99, Verdict(Kind.DIFFERENT, Reason.NEGATION), Action.CONFLICT),
        (0.99, Verdict(Kind.DIFFERENT, Reason.NAME), Action.DISTINCT),
        (0.5, Verdict(Kind.DIFFERENT, Reason.NEGATION), Action.DISTINCT),
    ],
)
def test_only_proof_merges(cosine: float, verdict: Verdict, action: Action) -> None:
    assert decide(cosine, verdict, LIMITS).action is action


def test_a_decision_records_what_it_rests_on() -> None:
    made = decide(0.9, Verdict(Kind.CONTAINS_B, rule_version="7"), LIMITS)
    assert (made.cosine, made.guard, made.rule_version, made.survivor) == (
        0.9, Kind.CONTAINS_B, "7", "b",
    )  # fmt: skip


@pytest.mark.parametrize(("merge", "propose"), [(0.5, 0.6), (1.5, 0.5), (0.5, -2.0)])
def test_thresholds_out_of_order_are_refused(merge: float, propose: float) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        Thresholds(merge=merge, propose=propose)


def test_a_wrong_survivor_counts_as_a_false_merge() -> None:
    pairs = [LabelledPair("1", "x", "x y", "duplicate", "containment", "b")]
    figures = score(pairs, {"1": decide(0.9, Verdict(Kind.CONTAINS_A), LIMITS)})
    assert (figures.merges, figures.false_merges, figures.recall) == (1, 1, 0.0)


def test_without_merges_there_is_no_rate() -> None:
    pairs = [LabelledPair("1", "x", "y", "distinct", "number")]
    figures = score(pairs, {"1": decide(0.9, Verdict(Kind.UNEXPLAINED), LIMITS)})
    assert figures.false_merge_rate is None
    assert figures.recall is None
    assert figures.proposed_distinct == 1.0


def test_on_the_labelled_pairs_nothing_is_merged_wrongly_and_half_is_merged() -> None:
    figures = _scored("memory-pairs.jsonl")
    assert figures.false_merges == 0
    assert (figures.recall or 0) >= 0.5
    assert (figures.reached or 0) >= 0.8
    assert (figures.proposed_distinct or 1) <= 1 / 3


def test_on_the_second_set_of_pairs_nothing_is_merged_wrongly() -> None:
    figures = _scored("guard-heldout.jsonl")
    assert figures.false_merges == 0
    assert (figures.recall or 0) >= 0.7


def test_on_the_third_set_of_pairs_nothing_is_merged_wrongly() -> None:
    figures = _scored("guard-fresh.jsonl")
    assert figures.false_merges == 0
    assert (figures.recall or 0) >= 0.65
