"""Importance fades by half-life; below the floor a memory is due after a grace; runs are capped."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engram.domain.decay import (
    CAPPED_FROM,
    DEFAULT,
    MAX_PICKED,
    MAX_SHARE,
    Policy,
    allowance,
    faded,
    is_due,
    kept_s,
)

NOW = datetime(2026, 1, 31, tzinfo=UTC)
importances = st.floats(1e-6, 1)
days = st.floats(0, 4_000)
policies = st.builds(
    Policy, half_life_days=st.floats(0.01, 1_000), floor=st.floats(1e-6, 1), grace_days=days
)


def ago(age_days: float) -> datetime:
    return NOW - timedelta(days=age_days)


@pytest.mark.parametrize(("half_lives", "left"), [(0, 0.8), (1, 0.4), (2, 0.2), (-5, 0.8)])
def test_importance_halves_with_every_half_life_and_never_grows(
    half_lives: int, left: float
) -> None:
    assert faded(0.8, ago(half_lives * DEFAULT.half_life_days), NOW) == pytest.approx(left)


@given(importances, days, st.floats(0.1, 1_000))
def test_one_more_half_life_leaves_half_whatever_is_left(
    importance: float, age: float, half_life: float
) -> None:
    before = faded(importance, ago(age), NOW, half_life_days=half_life)
    assume(before > 1e-300)
    after = faded(importance, ago(age + half_life), NOW, half_life_days=half_life)
    assert after == pytest.approx(before / 2, rel=1e-6)


@given(importances, importances, days, days, st.floats(0.1, 1_000))
def test_the_older_and_the_less_important_has_never_more_left(
    low: float, high: float, young: float, old: float, half_life: float
) -> None:
    low, high = sorted((low, high))
    young, old = sorted((young, old))
    more = faded(high, ago(young), NOW, half_life_days=half_life)
    assert 0 <= faded(low, ago(old), NOW, half_life_days=half_life) <= more <= high


@given(importances, days, days)
def test_reinforcement_gives_back_all_of_it(importance: float, age: float, later: float) -> None:
    assert faded(importance, NOW, NOW) == importance
    young, old = sorted((age, later))
    assert faded(importance, ago(young), NOW) >= faded(importance, ago(old), NOW)


def test_what_is_pinned_does_not_fade() -> None:
    assert faded(0.8, ago(9_999), NOW, pinned=True) == 0.8


def test_a_very_old_memory_fades_to_nothing_without_an_error() -> None:
    assert faded(1.0, datetime.min.replace(tzinfo=UTC), NOW) == pytest.approx(0.0)


@given(importances, policies)
def test_a_memory_is_due_when_it_is_below_the_floor_and_the_grace_is_over(
    importance: float, policy: Policy
) -> None:
    fell_days = kept_s(importance, policy) / 86_400 - policy.grace_days
    assume(fell_days + policy.grace_days < 100_000)
    if importance <= policy.floor:
        assert fell_days == pytest.approx(0, abs=1e-9)
    else:
        left = faded(importance, ago(fell_days), NOW, half_life_days=policy.half_life_days)
        assert left == pytest.approx(policy.floor, rel=1e-3)
    kept = timedelta(seconds=kept_s(importance, policy))
    assert is_due(importance, NOW - kept - timedelta(seconds=1), NOW, policy)
    assert not is_due(importance, NOW - kept + timedelta(seconds=1), NOW, policy)


@given(importances, policies, days, days)
def test_what_is_due_stays_due_and_reinforcement_ends_it(
    importance: float, policy: Policy, age: float, later: float
) -> None:
    if is_due(importance, ago(age), NOW, policy):
        assert is_due(importance, ago(age + later), NOW, policy)
    assume(kept_s(importance, policy) > 0)
    assert not is_due(importance, NOW, NOW, policy)


def test_the_default_keeps_an_ordinary_memory_for_about_four_months() -> None:
    assert kept_s(0.5, DEFAULT) / 86_400 == pytest.approx(129.66, abs=0.01)


@pytest.mark.parametrize("policy", [Policy(floor=0), Policy(enabled=False)])
def test_without_a_floor_or_switched_off_nothing_is_ever_due(policy: Policy) -> None:
    assert kept_s(1e-6, policy) == math.inf
    assert not is_due(1e-6, datetime.min.replace(tzinfo=UTC), NOW, policy)


def test_what_is_pinned_or_has_a_time_to_live_is_exempt() -> None:
    old = ago(9_999)
    assert is_due(0.1, old, NOW, DEFAULT)
    assert not is_due(0.1, old, NOW, DEFAULT, pinned=True)
    assert not is_due(0.1, old, NOW, DEFAULT, expires_at=NOW + timedelta(days=1))
    assert not is_due(0.1, old, NOW, DEFAULT, expires_at=NOW - timedelta(days=1))


def test_a_time_in_the_future_is_never_due() -> None:
    assert not is_due(0.01, NOW + timedelta(days=400), NOW, Policy(grace_days=0))


@pytest.mark.parametrize(
    ("active", "allowed"), [(0, 0), (49, 49), (50, 10), (54, 10), (99, 19), (10_000_000, 200_000)]
)
def test_a_fifth_of_a_namespace_of_fifty_or_more_goes_at_once(active: int, allowed: int) -> None:
    assert allowance(active) == allowed


@given(st.integers(0, 5_000_000), st.integers(0, 5_000_000))
def test_a_run_that_goes_on_never_gets_more_than_its_first_share(at_first: int, done: int) -> None:
    done = min(done, allowance(at_first))
    total = done + allowance(at_first - done, done)
    assert total <= max(at_first, 0)
    if at_first >= CAPPED_FROM:
        assert total <= min(MAX_SHARE * at_first, MAX_PICKED)
