"""A clock that is set cannot make memories older than they are."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.decay_clock import TOLERANCE_S, UNSEEN_S, DecayClock, looked_at

START = datetime(2026, 1, 31, tzinfo=UTC)
YEAR_S = 365 * 86_400.0


def after(seconds: float, clock: DecayClock) -> datetime:
    return clock.seen_at + timedelta(seconds=seconds)


def test_a_clock_that_runs_on_is_followed() -> None:
    clock = DecayClock(START)
    for elapsed_s in (600.0, 603.5, 86_400.0):
        clock, set_by_s = looked_at(clock, after(elapsed_s, clock), elapsed_s + 0.2)
        assert (set_by_s, clock.withheld_s) == (0.0, 0.0)
    assert clock.now == START + timedelta(seconds=600 + 603.5 + 86_400)


def test_a_year_forwards_between_two_looks_of_one_process_counts_as_the_time_that_passed() -> None:
    clock, set_by_s = looked_at(DecayClock(START), START + timedelta(seconds=YEAR_S), 600.0)
    assert set_by_s == YEAR_S - 600
    assert clock.now == START + timedelta(seconds=600)


def test_a_year_forwards_while_nobody_looked_counts_as_a_day_and_two_hours() -> None:
    clock, set_by_s = looked_at(DecayClock(START), START + timedelta(seconds=YEAR_S), None)
    assert set_by_s == YEAR_S - UNSEEN_S
    assert clock.now == START + timedelta(seconds=UNSEEN_S)


def test_a_night_without_engram_counts_in_full() -> None:
    clock, set_by_s = looked_at(DecayClock(START), START + timedelta(hours=16), None)
    assert (set_by_s, clock.now) == (0.0, START + timedelta(hours=16))


def test_forwards_and_back_again_leaves_nothing_behind() -> None:
    clock, _ = looked_at(DecayClock(START), START + timedelta(seconds=YEAR_S), 600.0)
    clock, set_by_s = looked_at(clock, START + timedelta(seconds=1_200), 600.0)
    assert set_by_s == -(YEAR_S - 600)
    assert (clock.withheld_s, clock.now) == (0.0, START + timedelta(seconds=1_200))


def test_a_clock_that_was_ahead_from_the_start_does_not_age_what_comes_after() -> None:
    wrong = DecayClock(START + timedelta(seconds=YEAR_S))
    clock, _ = looked_at(wrong, START, 600.0)
    assert (clock.withheld_s, clock.now) == (0.0, START)


def test_a_year_backwards_is_told_and_counts_as_no_time_passed() -> None:
    for elapsed_s in (600.0, None):
        clock, set_by_s = looked_at(DecayClock(START), START - timedelta(seconds=YEAR_S), elapsed_s)
        assert set_by_s == -YEAR_S - (elapsed_s or 0.0)
        assert (clock.withheld_s, clock.now) == (0.0, START - timedelta(seconds=YEAR_S))


def test_backwards_and_forwards_again_never_runs_ahead_of_what_passed() -> None:
    clock, _ = looked_at(DecayClock(START), START - timedelta(seconds=YEAR_S), 600.0)
    clock, set_by_s = looked_at(clock, START + timedelta(seconds=1_200), 600.0)
    assert set_by_s == YEAR_S + 600
    assert clock.now <= START + timedelta(seconds=1_200)


def test_small_corrections_are_not_steps() -> None:
    clock, set_by_s = looked_at(DecayClock(START), START + timedelta(seconds=630), 600.0)
    assert (set_by_s, clock.withheld_s) == (0.0, 0.0)


@given(st.lists(st.tuples(st.floats(0, 86_400), st.floats(-YEAR_S, YEAR_S), st.booleans())))
def test_decay_never_runs_ahead_of_the_time_that_may_have_passed(
    looks: list[tuple[float, float, bool]],
) -> None:
    clock, real_s, bound_s = DecayClock(START), 0.0, 0.0
    for elapsed_s, set_by_s, is_own in looks:
        real_s += elapsed_s
        bound_s += (elapsed_s if is_own else UNSEEN_S) + TOLERANCE_S
        now = after(elapsed_s + set_by_s, clock)
        clock, _ = looked_at(clock, now, elapsed_s if is_own else None)
        assert clock.withheld_s >= 0
        assert clock.now <= clock.seen_at
    forwards_only = all(set_by_s >= 0 for _, set_by_s, _ in looks)
    if forwards_only:
        assert (clock.now - START).total_seconds() <= bound_s + 1e-3
