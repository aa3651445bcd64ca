"""What two looks at the event stream tell: losses are noticed, age and work are not losses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.broker.losses import Picture, lost, onward

MADE = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = Picture(MADE, first=1, last=100, gaps=0, done={"embed-live-1": 60})


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (BEFORE, None),
        (replace(BEFORE, first=61, last=120), None),
        (replace(BEFORE, first=62, last=120), "purged"),
        (replace(BEFORE, first=101), "purged"),
        (replace(BEFORE, gaps=1), "removed"),
        (replace(BEFORE, created=MADE + timedelta(seconds=1)), "made_anew"),
        (replace(BEFORE, last=99), "made_anew"),
    ],
)
def test_each_loss_has_its_name(now: Picture, kind: str | None) -> None:
    assert lost(BEFORE, now) == kind


def test_a_quiet_stream_that_ages_away_lost_nothing() -> None:
    done = replace(BEFORE, done={"embed-live-1": 100})
    assert lost(done, replace(done, first=101)) is None


def test_one_lane_behind_is_enough_for_a_purge_to_lose_something() -> None:
    before = replace(BEFORE, done={"embed-live-1": 100, "embed-live-2": 99})
    assert lost(before, replace(before, first=101)) == "purged"


def test_a_lane_that_comes_or_goes_is_no_loss() -> None:
    now = replace(BEFORE, last=110, done={"embed-live-2": 0})
    assert lost(BEFORE, now) is None
    assert onward(BEFORE, now).done == {"embed-live-2": 0}


# What happens between two looks: so many published, so many of those owed done, a day gone by.
steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30)


@given(steps)
def test_work_and_age_alone_never_look_like_a_loss(taken: list[tuple[int, int, bool]]) -> None:
    """The floor the broker tells may stand still; what was done once stays done."""
    first, last, done = 1, 0, 0
    before = Picture(MADE, 1, 0, 0, {"lane": 0})
    for published, worked, aged in taken:
        if aged and done == last:
            first = last + 1
        last += published
        done = min(last, done + worked)
        floor = last if done == last else max(0, done - 3)
        now = Picture(MADE, first, last, 0, {"lane": floor})
        assert lost(before, now) is None
        before = onward(before, now)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
def test_a_purge_of_what_is_owed_is_always_seen(done: int, owed: int, more: int) -> None:
    before = Picture(MADE, 1, done + owed, 0, {"lane": done})
    now = Picture(MADE, done + owed + more + 1, done + owed + more, 0, {"lane": done + owed + more})
    assert lost(before, now) == "purged"
