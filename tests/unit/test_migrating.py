"""Phases of a migration: no sequence of verbs reaches an illegal state, every refusal says why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.migrating import (
    ENDED,
    MOVES,
    NAMESPACE_STATES,
    PHASES,
    UNDER_WAY,
    VERBS,
    WISHES,
    Facts,
    NamespaceState,
    Phase,
    Verb,
    follows,
    is_done,
    may,
    reached,
)

STATES = st.lists(
    st.tuples(st.sampled_from(NAMESPACE_STATES), st.integers(1, 5)), unique_by=lambda one: one[0]
).map(tuple)
FACTS = st.builds(
    Facts,
    phase=st.sampled_from(PHASES),
    paused=st.booleans(),
    wish=st.none() | st.sampled_from(WISHES),
    others_under_way=st.booleans(),
    namespaces=STATES,
    reading_target=st.integers(0, 3),
)


def every(state: NamespaceState, facts: Facts) -> Facts:
    return replace(facts, namespaces=((state, max(1, facts.total)),))


def done(facts: Facts, verb: Verb) -> Facts:
    """Do a verb as the migrator does, all namespaces at once."""
    if is_done(facts, verb):
        return facts
    match verb:
        case "start":
            return replace(facts, phase="dual_write")
        case "pause" | "resume":
            return replace(facts, paused=verb == "pause")
        case "verify":
            moved = every("verified", facts)
        case "cutover":
            moved = replace(every("cut_over", facts), reading_target=1)
        case "rollback":
            moved = replace(every("verified", facts), reading_target=0)
        case "release":
            return replace(facts, phase="released")
        case "abort":
            return replace(facts, phase="aborted")
    return replace(moved, phase=reached(moved))


@given(FACTS, st.sampled_from(VERBS))
def test_every_refusal_has_a_code_a_reason_and_a_cure(facts: Facts, verb: Verb) -> None:
    refusal = may(facts, verb)
    if refusal is not None:
        assert refusal.code.islower()
        assert refusal.detail.endswith(".")
        assert refusal.cure


@given(FACTS, st.sampled_from(VERBS))
def test_what_is_done_already_is_not_refused_and_changes_nothing(facts: Facts, verb: Verb) -> None:
    if is_done(facts, verb):
        assert may(facts, verb) is None
        assert done(facts, verb) == facts


@given(st.lists(st.sampled_from((*VERBS, "backfill", "complete", "lost")), max_size=25))
def test_no_sequence_of_verbs_reaches_an_illegal_state(steps: list[str]) -> None:
    facts = Facts("planned")
    for step in steps:
        before = facts
        if step == "backfill":
            if facts.phase == "dual_write":
                facts = replace(every("backfilling", facts), phase="backfill")
        elif step == "complete":
            if facts.phase == "backfill" and facts.count("backfilling"):
                facts = every("complete", facts)
        elif step == "lost":
            if facts.phase == "backfill" and facts.count("complete"):
                facts = every("backfilling", facts)
        else:
            [verb] = [verb for verb in VERBS if verb == step]
            facts = done(facts, verb) if may(facts, verb) is None else facts
        assert follows(before.phase, facts.phase), (before, step, facts)
        assert_legal(facts)


def assert_legal(facts: Facts) -> None:
    assert facts.phase not in ("planned", "aborted") or facts.reading_target == 0
    assert facts.phase != "cut_over" or facts.count("cut_over") == facts.total
    assert facts.phase != "verified" or facts.count("verified") == facts.total
    assert facts.phase != "released" or facts.reading_target
    if facts.phase in ("planned", "dual_write"):
        assert facts.total == 0


@pytest.mark.parametrize("phase", ENDED)
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_can_be_done_with_one_that_has_ended(phase: Phase, verb: Verb) -> None:
    facts = Facts(phase)
    refusal = may(facts, verb)
    assert is_done(facts, verb) or (refusal is not None and refusal.code == "migration_over")
    assert MOVES[phase] == ()


def test_two_migrations_are_never_under_way_at_once() -> None:
    refusal = may(Facts("planned", others_under_way=True), "start")
    assert refusal is not None
    assert refusal.code == "migration_under_way"


@pytest.mark.parametrize(
    ("facts", "verb", "code"),
    [
        (Facts("backfill", namespaces=(("backfilling", 1), ("complete", 9))), "verify",
         "backfill_not_complete"),
        (Facts("backfill", namespaces=(("complete", 1), ("verified", 9))), "cutover",
         "not_verified"),
        (Facts("verified", namespaces=(("verified", 1), ("cut_over", 1))), "abort",
         "target_is_read"),
        (Facts("backfill", namespaces=(("complete", 1),), reading_target=1), "abort",
         "target_is_read"),
        (Facts("cut_over"), "abort", "wrong_phase"),
        (Facts("planned"), "release", "wrong_phase"),
        (Facts("verified", wish="cutover", namespaces=(("verified", 1),)), "verify",
         "migration_busy"),
    ],
)  # fmt: skip
def test_a_verb_whose_condition_does_not_hold_is_refused(
    facts: Facts, verb: Verb, code: str
) -> None:
    refusal = may(facts, verb)
    assert refusal is not None
    assert refusal.code == code


@pytest.mark.parametrize(
    ("wish", "verb"),
    [("verify", "pause"), ("cutover", "rollback"), ("verify", "abort"), ("verify", "verify")],
)
def test_whatever_goes_on_may_be_held_taken_back_or_given_up(wish: str, verb: Verb) -> None:
    facts = Facts("backfill", wish=wish, namespaces=(("complete", 1),))
    assert may(facts, verb) is None


def test_the_phases_that_count_as_under_way_are_those_between_start_and_end() -> None:
    assert set(UNDER_WAY) == set(PHASES) - {"planned", *ENDED}


def test_a_namespace_that_is_new_keeps_a_migration_from_being_verified() -> None:
    facts = Facts("verified", namespaces=(("verified", 3), ("complete", 1)))
    assert reached(facts) == "backfill"
