"""What the sweep plans for one scope: classes of equal texts, near pairs, merges and findings."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.domain import dedup_near
from engram.domain.dedup_classes import Text
from engram.domain.dedup_decision import Action, Thresholds, decide
from engram.domain.dedup_near import Near
from engram.domain.dedup_plan import Comparison, Plan
from engram.domain.dedup_thresholds import calibrated, joined_from, mark
from engram.domain.guard import examine

LIMITS = Thresholds(merge=0.8, propose=0.6)
# Texts the guard merges, contradicts or cannot explain, in any mixture.
WORDS = (
    "Bob has 2 cats.", "bob has two cats", "Bob has 3 cats.", "Bob  has 2 cats.",
    "The user mentioned that Bob has 2 cats.", "Bob has 2 cats and lives in Rome.",
    "Bob might get cats.", "Ada plays.",
)  # fmt: skip


def text(number: int, content: str, **fields: object) -> Text:
    given = {"metadata": {}, "importance": 0.5, "created_at_s": float(number), "pinned": False}
    return Text(UUID(int=number + 1), 1, content, **{**given, **fields})  # type: ignore[arg-type]  # a test's fields


def plan_of(
    vectors: np.ndarray, texts: Sequence[Text], new: np.ndarray | None = None, settled=()
) -> tuple[Plan, Comparison]:
    new = np.ones(len(vectors), dtype=bool) if new is None else new
    near = Near.of(vectors.astype(np.float16), new, LIMITS.propose)
    read = {row: texts[row] for row in near.rows().tolist()}
    compared = Comparison.of(near, read, LIMITS)
    return compared.plan(set(settled), LIMITS), compared


def close(count: int, seed: int = 1) -> np.ndarray:
    """Return unit vectors that are all near one another."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(16) + 0.05 * rng.standard_normal((count, 16))
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def merged(plan: Plan) -> list[set[int]]:
    return [
        {UUID(merge["survivor"]).int - 1} | {UUID(m["id"]).int - 1 for m in merge["members"]}
        for merge in plan.merges
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 2)), min_size=2, max_size=12))
def test_every_two_of_a_merged_group_are_proven_and_near(given_):
    contents = [content for content, _ in given_]
    vectors = np.stack([close(3)[place] for _, place in given_])
    plan, _ = plan_of(vectors, [text(n, content) for n, content in enumerate(contents)])
    stored = vectors.astype(np.float16).astype(np.float64)
    seen: set[int] = set()
    for group in merged(plan):
        assert not seen & group
        seen |= group
        for a in group:
            for b in group - {a}:
                cosine = (
                    stored[a] @ stored[b] / np.linalg.norm(stored[a]) / np.linalg.norm(stored[b])
                )
                assert cosine >= LIMITS.merge - 1e-9
                assert examine(contents[a], contents[b]).proves


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=30),
    st.sampled_from([0.6, 0.9]),
)
def test_near_classes_are_those_of_a_plain_product(rows, threshold):
    if len(rows) < 2:
        return
    rng = np.random.default_rng(5)
    base = rng.standard_normal((3, 8))
    base = np.concatenate((base, base + 0.3 * rng.standard_normal((3, 8)))).astype(np.float16)
    vectors = base[[place for place, _, _ in rows]]
    classes = np.array([kind for _, kind, _ in rows])
    new = np.array([fresh for _, _, fresh in rows])
    near = Near.of(vectors, new, threshold)
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1)[:, None]
    wanted = {
        (min(classes[a], classes[b]), max(classes[a], classes[b]))
        for a in range(len(rows))
        for b in range(a)
        if exact[a] @ exact[b] >= threshold and (new[a] or new[b]) and classes[a] != classes[b]
    }
    found, left_out = near.class_pairs(classes, 5)
    assert {tuple(pair) for pair in found.tolist()} == wanted
    assert left_out == 0


def test_equal_texts_are_one_class_and_need_no_comparison():
    plan, compared = plan_of(close(200), [text(n, "Bob has 2 cats.") for n in range(200)])
    assert (compared.pairs, plan.counts["pairs"], plan.absorbed) == ([], 0, 199)


def test_an_equal_text_with_a_vector_from_elsewhere_stays():
    vectors = np.concatenate((close(2), close(1, seed=99)))
    plan, _ = plan_of(vectors, [text(n, "Bob has 2 cats.") for n in range(3)])
    assert merged(plan) == [{0, 1}]


def test_old_memories_are_not_compared_with_one_another_again():
    texts = [text(n, "Bob has 2 cats.") for n in range(3)]
    plan, _ = plan_of(close(3), texts, np.zeros(3, dtype=bool))
    assert plan.merges == []


def test_settled_pairs_are_left_alone():
    texts = [text(0, WORDS[0], decided=True), text(1, WORDS[1], decided=True)]
    _, compared = plan_of(close(2), texts)
    assert compared.doubtful() == [tuple(texts)]
    assert compared.plan({(texts[0].id, texts[1].id)}, LIMITS).merges == []


def test_the_text_that_holds_the_other_survives_whatever_its_importance():
    texts = [
        text(0, "Bob has 2 cats.", importance=1.0),
        text(1, "Bob has 2 cats and lives in Rome."),
    ]
    made = decide(0.9, examine(texts[0].content, texts[1].content), LIMITS)
    plan, _ = plan_of(close(2), texts)
    assert made.survivor == "b"
    assert UUID(plan.merges[0]["survivor"]) == texts[1].id


def test_evidence_of_a_merge_holds_no_words_of_the_texts():
    plan, _ = plan_of(close(2), [text(0, WORDS[0]), text(1, WORDS[4])])
    assert set(plan.merges[0]["members"][0]["guard"]) == {"kind", "rules"}


def test_one_memory_is_in_few_proposals():
    texts = [text(n, f"Bob might get {chr(97 + n)} cats.") for n in range(20)]
    plan, _ = plan_of(close(20), texts)
    for found in (plan.proposals, plan.conflicts):
        for one in texts:
            met = [f for f in found if one.id.hex in (f["one"][0], f["other"][0])]
            assert len(met) <= 10


def test_too_many_pairs_are_cut_to_the_nearest_of_each(monkeypatch):
    monkeypatch.setattr(dedup_near, "_MOST_READ", 40)
    monkeypatch.setattr(dedup_near, "_MOST_NEIGHBOURS", 3)
    pairs = np.array([(a, b) for a in range(20) for b in range(a + 1, 20)])
    cosines = np.linspace(0.6, 1.0, len(pairs))
    kept = dedup_near.nearest(pairs, cosines)
    assert 0 < kept.sum() <= 40
    assert np.bincount(pairs[kept].ravel()).max() <= 3
    assert kept[-1]


def test_thresholds_come_from_the_least_alike_restatements_and_name_the_rules():
    found = calibrated([0.9] * 30)
    assert found == Thresholds(0.75, 0.75)
    assert calibrated([0.1] * 30).propose == 0.3
    assert joined_from(100_000, found) == 0.8
    assert joined_from(100, found) == 0.75
    assert mark(1, found) != mark(1, LIMITS)
    with pytest.raises(ValueError, match="20 restatement pairs"):
        calibrated([0.9])


def test_actions_of_a_plan_are_counted():
    plan, _ = plan_of(close(3), [text(0, WORDS[0]), text(1, WORDS[1]), text(2, WORDS[2])])
    assert {action: plan.counts[action] for action in Action} == {
        Action.MERGE: 1, Action.PROPOSE: 0, Action.CONFLICT: 2, Action.DISTINCT: 0,
    }  # fmt: skip
