"""The pure rules of the client: waits, the retry loop without time, batching, summing reports."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.backoff import Backoff
from engram.client import calls
from engram.client.answers import retry_after_s
from engram.client.exchange import Send, Surroundings, Wait, exchange
from engram.client.imports import MAX_LISTED_ERRORS, Position, Tally, batches, numbered
from engram.errors import BusyError, NotFoundError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(
    attempt=st.integers(1, 10**6),
    draw=st.floats(0, 1, exclude_max=True),
    floor_s=st.floats(0, 1000),
)
def test_a_wait_is_between_what_the_server_asked_for_and_the_ceiling(attempt, draw, floor_s):
    backoff = Backoff(attempts=10**7)
    wait_s = backoff.wait_s(attempt, draw, floor_s)
    if floor_s > backoff.max_wait_s:
        assert wait_s is None
    else:
        assert floor_s <= wait_s <= floor_s + backoff.cap_s


def test_waits_double_up_to_the_cap():
    backoff = Backoff(attempts=9, base_s=1, cap_s=5)
    assert [backoff.wait_s(n, 0.5) for n in range(1, 6)] == [0.5, 1, 2, 2.5, 2.5]


def test_the_last_attempt_is_not_followed_by_a_wait():
    assert Backoff(attempts=3).wait_s(3, 0.5) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("inf", None),
        ("9" * 500, 999_999_999.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, expected):
    assert retry_after_s({"retry-after": value}, NOW) == expected


def steps_of(call, *outcomes):
    """Drive a call with the given outcomes; return the steps it asked for and its result."""
    around = Surroundings(Backoff(attempts=5, base_s=1, cap_s=8), lambda: 0.5, lambda: NOW)
    loop, steps, pending = exchange(call, around), [], list(outcomes)
    step = next(loop)
    while True:
        steps.append(step)
        try:
            step = loop.send(pending.pop(0) if isinstance(step, Send) else None)
        except StopIteration as stop:
            return steps, stop.value


def test_the_wait_a_server_asks_for_is_the_floor_of_the_jittered_one():
    busy = httpx.Response(429, headers={"retry-after": "7"})
    steps, result = steps_of(calls.get("m"), busy, busy, httpx.Response(200, json={"id": "m"}))
    assert steps == [Send(), Wait(7.5), Send(), Wait(8.0), Send()]
    assert result == {"id": "m"}


def test_a_lost_connection_is_tried_again_but_a_broken_request_is_not():
    good = httpx.Response(200, json={})
    steps, _ = steps_of(calls.get("m"), httpx.ReadTimeout("x"), httpx.ConnectError("x"), good)
    assert steps == [Send(), Wait(0.5), Send(), Wait(1.0), Send()]
    with pytest.raises(Exception, match="cannot be reached") as caught:
        steps_of(calls.get("m"), httpx.UnsupportedProtocol("x"))
    assert isinstance(caught.value.__cause__, httpx.UnsupportedProtocol)


def test_only_a_delete_takes_a_late_404_for_success():
    gone = httpx.Response(404)
    assert steps_of(calls.delete("m", if_match=None), httpx.ReadError("x"), gone)[1] is None
    with pytest.raises(NotFoundError):
        steps_of(calls.get("m"), httpx.ReadError("x"), gone)


def test_the_last_outcome_is_the_error():
    busy = httpx.Response(429)
    with pytest.raises(BusyError):
        steps_of(calls.get("m"), *[httpx.ReadError("x")] * 4, busy)


items = st.lists(st.fixed_dictionaries({"content": st.text(max_size=60)}), max_size=40)


@given(items=items, max_items=st.integers(1, 7), max_bytes=st.integers(20, 400))
def test_batches_keep_every_item_in_order_within_the_limits(items, max_items, max_bytes):
    tally = Tally()
    made = list(batches(numbered(items), tally, max_items=max_items, max_bytes=max_bytes))
    sent = [json.loads(line) for batch in made for line in batch.ndjson.split(b"\n")[:-1]]
    positions = [position.index for batch in made for position in batch.positions]
    failed = [error["index"] for error in tally.errors]
    assert sorted(positions + failed) == list(range(len(items)))
    assert sent == [items[index] for index in positions]
    assert all(1 <= len(batch.positions) <= max_items for batch in made)
    assert all(len(batch.ndjson) <= max_bytes for batch in made)
    assert tally.counts["received"] == tally.counts["failed"] == len(failed)


def test_batching_holds_one_batch_at_a_time():
    taken = []

    def source():
        for index in range(1000):
            taken.append(index)
            yield Position(index), {"content": "x"}

    next(batches(source(), Tally(), max_items=10))
    assert len(taken) == 11


def test_errors_are_put_back_to_the_files_own_positions():
    tally = Tally()
    error = {"external_id": None, "code": "c", "detail": "d"}
    report = {
        "received": 3,
        "failed": 3,
        "errors": [
            {"index": 1, "line": 2, **error},
            {"index": None, "line": 1, **error},
            {"index": 99, "line": None, **error},
        ],
    }
    tally.add(report, [Position(40, 400), Position(50, 500)])
    assert [(e["index"], e["line"]) for e in tally.report()["errors"]] == [
        (40, 400),
        (50, 500),
        (99, None),
    ]


def test_a_report_does_not_grow_with_the_failures_but_says_how_many_it_left_out():
    tally = Tally()
    for index in range(MAX_LISTED_ERRORS + 5):
        tally.fail(Position(index), None, BusyError("c", "d"))
    report = tally.report()
    assert len(report["errors"]) == MAX_LISTED_ERRORS
    assert report["failed"] == MAX_LISTED_ERRORS + 5
    assert report["warnings"] == ["5 further errors are counted but not listed here"]
