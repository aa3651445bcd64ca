"""Similarity and what is left of importance become one order."""

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.ranking import blended


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
