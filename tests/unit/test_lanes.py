"""Whose turn a call is: live before bulk, a floor for bulk, slots kept free."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.lanes import LIVE_BEFORE_BULK, bulk_slots, next_lane, spills
from engram.domain.linger import MOST_S, Arrivals

CALLS = st.integers(1, 40)
COUNTS = st.integers(0, 50)


@given(CALLS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 9))
def test_a_slot_is_given_only_to_who_waits_and_within_the_limits(
    calls, live, bulk, live_waits, bulk_waits, in_a_row
):
    flying, waiting = {"live": live, "bulk": bulk}, {"live": live_waits, "bulk": bulk_waits}
    lane = next_lane(calls, flying, waiting, in_a_row)
    if lane is None:
        idle = live_waits == 0 and (bulk_waits == 0 or bulk >= bulk_slots(calls))
        assert idle or live + bulk >= calls
    else:
        assert waiting[lane] > 0
        assert live + bulk < calls
        assert lane == "live" or bulk < bulk_slots(calls)


@given(st.integers(4, 40))
def test_bulk_alone_never_takes_the_slots_kept_for_live_work(calls):
    flying = Counter(live=0, bulk=0)
    while (lane := next_lane(calls, flying, {"live": 0, "bulk": 99}, 0)) is not None:
        flying[lane] += 1
    assert flying == {"live": 0, "bulk": bulk_slots(calls)}
    assert next_lane(calls, flying, {"live": 1, "bulk": 99}, 0) == "live"


@given(CALLS)
def test_bulk_gets_its_floor_however_much_live_work_waits(calls):
    given_to, in_a_row = [], 0
    for _ in range(60):
        lane = next_lane(calls, {"live": calls - 1, "bulk": 0}, {"live": 9, "bulk": 9}, in_a_row)
        in_a_row = in_a_row + 1 if lane == "live" else 0
        given_to.append(lane)
    turns = [index for index, lane in enumerate(given_to) if lane == "bulk"]
    assert {after - before for before, after in pairwise(turns)} == {LIVE_BEFORE_BULK + 1}


def test_a_workspace_above_its_share_spills_and_one_at_it_does_not():
    assert not spills(199, 1, 200)
    assert spills(200, 1, 200)
    assert spills(0, 256, 200)


@given(st.lists(st.floats(0, 100), max_size=50), st.integers(0, 20))
def test_lingering_is_short_and_ends_when_company_is_there(gaps, waiting):
    rhythm, now = Arrivals(), 0.0
    for gap in gaps:
        now += gap
        rhythm = rhythm.seen(now)
    assert 0 <= rhythm.linger_s(waiting) <= MOST_S
    assert rhythm.linger_s(8) == 0


def test_lingering_adapts_to_the_rate_of_arrivals():
    slow, quick = Arrivals(), Arrivals()
    for n in range(40):
        slow, quick = slow.seen(n * 0.05), quick.seen(n * 0.001)
    assert slow.linger_s(1) == 0
    assert 0 < quick.linger_s(1) < MOST_S
    for n in range(10):
        quick = quick.seen(10 + n * 1.0)
    assert quick.linger_s(1) == 0
