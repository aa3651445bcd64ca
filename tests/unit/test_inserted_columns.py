"""Columns of an insert: what is alike comes once, what is absent not at all, the rest as it is."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from engram.storage.columns import brief

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def filled_up(column, count, *, filled):
    """What ``unnest`` and the statement make of it."""
    padded = [*column, *[None] * (count - len(column))]
    if not filled:
        return padded
    return [column[0] if value is None else value for value in padded]


values = st.sampled_from(["a", "b", ""]) | st.booleans() | st.none() | st.just(NOON)


@given(st.lists(values, min_size=1, max_size=6))
def test_a_column_that_may_be_null_means_what_it_meant(column):
    assert filled_up(brief(column, filled=False), len(column), filled=False) == column


@given(st.lists(st.sampled_from(["a", "b"]) | st.just(NOON), min_size=1, max_size=6))
def test_a_column_that_is_never_null_means_what_it_meant(column):
    assert filled_up(brief(column, filled=True), len(column), filled=True) == column


def test_what_is_alike_comes_once_and_what_is_absent_not_at_all():
    assert brief(("a",) * 500, filled=True) == ("a",)
    assert brief((None,) * 500, filled=False) == ()
    assert len(brief(("a",) * 500, filled=False)) == 500
    assert len(brief((*("a",) * 499, "b"), filled=True)) == 500
    elsewhere = NOON.astimezone(timezone(timedelta(hours=2)))
    assert brief((NOON, elsewhere), filled=True) == (NOON,)
