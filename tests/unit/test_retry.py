"""What becomes of a failed call."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.retry import (
    AUTH_PAUSE_S,
    MAX_ATTEMPTS,
    MAX_DELAY_S,
    MAX_RETRY_AFTER_S,
    DeadLetter,
    Defer,
    ErrorClass,
    PauseLane,
    RetryAt,
    Split,
    backoff_s,
    classify_status,
    decide,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTED = ["server", "timeout", "connection", "contract"]
jitters = st.floats(min_value=0, max_value=1, exclude_max=True)
floors = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((429,), "rate_limited"),
        ((401, 402, 403, 404, 405, 301, 307), "auth"),
        ((400, 406, 413, 414, 415, 422, 418), "rejected"),
        ((500, 501, 502, 503, 504, 529, 599, 409, 425), "server"),
        ((408,), "timeout"),
        ((200, 204, 100, 0), "contract"),
    ],
)
def test_a_status_has_one_class(statuses, expected):
    assert {classify_status(status) for status in statuses} == {expected}


@given(st.integers(0, 10_000), floors, jitters, st.integers(1, 100))
def test_a_rate_limit_never_consumes_an_attempt_however_often_it_comes(
    attempt, floor, jitter, size
):
    assert isinstance(decide("rate_limited", attempt, NOW, floor, jitter, batch_size=size), Defer)


@given(st.floats(0, MAX_RETRY_AFTER_S), jitters, st.integers(0, 5))
def test_retry_after_is_a_floor(floor, jitter, attempt):
    earliest = NOW + timedelta(seconds=floor)
    assert decide("rate_limited", attempt, NOW, floor, jitter).until >= earliest
    assert decide("server", attempt, NOW, floor, jitter).at >= earliest
    assert decide("auth", attempt, NOW, floor, jitter).until >= earliest


def test_an_absurd_retry_after_is_cut_to_an_hour():
    until = decide("rate_limited", 0, NOW, float("inf"), 0.0).until
    assert until == NOW + timedelta(seconds=MAX_RETRY_AFTER_S)


def test_callers_told_the_same_retry_after_do_not_return_together():
    times = {decide("rate_limited", 0, NOW, 5.0, jitter / 10).until for jitter in range(10)}
    assert len(times) == 10


def test_a_bad_key_pauses_the_lane_for_everyone():
    assert decide("auth", 7, NOW, None, 0.5) == PauseLane(NOW + timedelta(seconds=AUTH_PAUSE_S))


def test_a_rejected_batch_is_split_and_a_rejected_text_alone_is_dead():
    assert decide("rejected", 0, NOW, None, 0.5, batch_size=2) == Split()
    assert decide("rejected", 0, NOW, None, 0.5, batch_size=1) == DeadLetter("rejected")


@pytest.mark.parametrize("error_class", COUNTED)
def test_other_failures_count_and_end_at_the_eighth(error_class):
    attempt = 0
    for _ in range(MAX_ATTEMPTS - 1):
        decision = decide(error_class, attempt, NOW, None, 0.999)
        assert isinstance(decision, RetryAt)
        assert decision.attempt == attempt + 1
        attempt = decision.attempt
    dead = decide(error_class, attempt, NOW, None, 0.999)
    assert dead == DeadLetter(f"{error_class} after 8 attempts")


@pytest.mark.parametrize("error_class", [*COUNTED, "rejected"])
@pytest.mark.parametrize("size", [1, 100])
def test_an_outage_pauses_the_lane_and_kills_no_memory(error_class, size):
    last = MAX_ATTEMPTS - 1
    decision = decide(error_class, last, NOW, 2.0, 0.5, batch_size=size, provider_down=True)
    assert isinstance(decision, PauseLane)
    assert timedelta(seconds=5) <= decision.until - NOW <= timedelta(seconds=60)


def test_a_rate_limit_during_an_outage_is_still_only_a_rate_limit():
    assert isinstance(decide("rate_limited", 0, NOW, 1.0, 0.5, provider_down=True), Defer)


@given(st.integers(0, 100_000), jitters)
def test_backoff_stays_between_nothing_and_its_cap(attempt, jitter):
    assert 0 <= backoff_s(attempt, jitter) <= min(MAX_DELAY_S, 2.0 ** min(attempt, 40))


@given(st.sampled_from(get_args(ErrorClass)), st.integers(0, 20), floors, jitters)
def test_every_failure_has_a_decision_not_in_the_past(error_class, attempt, floor, jitter):
    decision = decide(error_class, attempt, NOW, floor, jitter, batch_size=3)
    moment = getattr(decision, "at", getattr(decision, "until", NOW))
    assert NOW <= moment <= NOW + timedelta(seconds=MAX_RETRY_AFTER_S + MAX_DELAY_S)
