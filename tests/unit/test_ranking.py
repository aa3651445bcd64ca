"""Importance fades by half-life and is mixed with similarity."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.ranking import DEFAULT_HALF_LIFE_DAYS, blended, faded

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(("half_lives", "left"), [(0, 0.8), (1, 0.4), (2, 0.2), (-5, 0.8)])
def test_importance_halves_with_every_half_life_and_never_grows(
    half_lives: int, left: float
) -> None:
    reinforced = NOW - timedelta(days=half_lives * DEFAULT_HALF_LIFE_DAYS)
    assert faded(0.8, reinforced, NOW) == pytest.approx(left)


def test_a_shorter_half_life_fades_faster() -> None:
    reinforced = NOW - timedelta(days=10)
    assert faded(1.0, reinforced, NOW, half_life_days=10) == pytest.approx(0.5)


def test_what_is_pinned_does_not_fade() -> None:
    assert faded(0.8, NOW - timedelta(days=9999), NOW, pinned=True) == 0.8


def test_a_very_old_memory_fades_to_nothing_without_an_error() -> None:
    assert faded(1.0, datetime.min.replace(tzinfo=UTC), NOW) == pytest.approx(0.0)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_blend_stays_in_range_and_never_falls_with_either_part(
    low: float, high: float, dull: float, vital: float
) -> None:
    low, high = sorted((low, high))
    dull, vital = sorted((dull, vital))
    assert -1 <= blended(low, dull) <= blended(high, vital) <= 1
    assert blended(low, dull) <= blended(low, vital)


def test_without_weight_only_similarity_counts() -> None:
    assert blended(0.3, 1.0, weight=0.0) == 0.3
    assert blended(0.3, 1.0, weight=1.0) == 1.0
