"""An import's account adds up, and ids made for rows without one are stable."""

import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import Fault
from engram.importers.identity import Repeats, fallback_id
from engram.importers.reading import read_value
from engram.importers.record import Found, Warnings
from engram.importers.report import MAX_ERRORS, Report

OUTCOMES = ("imported", "updated", "duplicates", "superseded", "skipped")


def faulty(index: int, code: str = "empty") -> tuple[Found, Fault]:
    fault = Fault("/content", code, "is empty")
    return Found(index, index + 1, None, fault, "x1"), fault


@given(st.lists(st.sampled_from([*OUTCOMES, "empty", "deleted"])))
def test_received_is_the_sum_of_what_became_of_each_element(what: list[str]) -> None:
    report = Report("mem0")
    for index, outcome in enumerate(what):
        if outcome in OUTCOMES:
            report.add(outcome, "user:alice")  # type: ignore[arg-type] # one of the literals
        else:
            report.fail(*faulty(index, outcome))
    body = report.as_json()
    assert body["received"] == len(what)
    assert body["failed"] == what.count("empty")
    assert body["skipped"] == what.count("skipped") + what.count("deleted")
    live = what.count("imported") + what.count("updated")
    assert body["by_namespace"] == ({"user:alice": live} if live else {})
    assert sum(body[name] for name in (*OUTCOMES, "failed")) == body["received"]


def test_a_report_has_the_published_shape_and_names_each_error() -> None:
    report = Report("mem0", ["incomplete page"])
    report.add("imported", "global")
    report.fail(*faulty(1))
    assert report.as_json() == {
        "format": "mem0", "received": 2, "imported": 1, "updated": 0, "duplicates": 0,
        "superseded": 0, "skipped": 0, "failed": 1, "by_namespace": {"global": 1},
        "warnings": ["incomplete page"],
        "errors": [
            {
                "index": 1, "line": 2, "external_id": "x1", "code": "empty",
                "detail": "/content is empty",
            }
        ],
    }  # fmt: skip


def test_a_report_lists_a_hundred_errors_and_counts_the_rest() -> None:
    report = Report("mem0")
    for index in range(MAX_ERRORS + 7):
        report.fail(*faulty(index))
    body = report.as_json()
    assert len(body["errors"]) == MAX_ERRORS
    assert body["failed"] == MAX_ERRORS + 7
    assert body["warnings"] == ["7 further errors are counted but not listed here"]


def test_an_outcome_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="failed"):
        Report("mem0").add("failed", "global")  # type: ignore[arg-type] # that is the point


def test_equal_rows_without_ids_get_different_ids_and_the_same_ones_each_time() -> None:
    rows = [{"memory": "a", "user_id": "u"}] * 3 + [{"memory": "a", "user_id": "v"}]
    first = [f.external_id for f in read_value(rows)]
    assert len(set(first)) == 4
    assert [f.external_id for f in read_value(rows)] == first


def test_a_fallback_id_does_not_depend_on_the_place_in_the_file() -> None:
    rows = [{"memory": "a"}, {"memory": "b"}]
    there = {f.external_id for f in read_value(rows)}
    assert {f.external_id for f in read_value(rows[::-1])} == there


def test_a_fallback_id_depends_on_format_owner_text_and_repeat() -> None:
    item = {"content": "a", "user_id": "u"}
    ids = {
        fallback_id("mem0", item, 0),
        fallback_id("zep", item, 0),
        fallback_id("mem0", item, 1),
        fallback_id("mem0", item | {"agent_id": "x"}, 0),
        fallback_id("mem0", {"content": "a", "agent_id": "u"}, 0),
        fallback_id("mem0", item | {"content": "b"}, 0),
    }
    assert len(ids) == 6
    assert all(len(i) == 64 for i in ids)
    assert Repeats("mem0").id_for(item) == fallback_id("mem0", item, 0)


def test_repeats_are_told_apart_among_many_and_cost_ten_bytes_each() -> None:
    repeats, count = Repeats("mem0"), 100_000
    items = [{"content": f"fact {n}", "user_id": "u"} for n in range(count)]
    tracemalloc.start()
    try:
        first = [int(repeats.id_for(item)[:12], 16) for item in items]
        named_bytes = sum(map(sys.getsizeof, first)) + sys.getsizeof(first)
        grown_bytes = tracemalloc.get_traced_memory()[0] - named_bytes
    finally:
        tracemalloc.stop()
    assert len(set(first)) == count
    assert grown_bytes < 15 * count
    again = [[repeats.id_for(item) for item in items[::1000]] for _ in range(2)]
    for nth, names in enumerate(again, 1):
        assert names == [fallback_id("mem0", item, nth) for item in items[::1000]]


def test_warnings_count_repeats_and_stay_bounded() -> None:
    warnings = Warnings()
    for n in range(200):
        warnings.add(f"kind {n}")
        warnings.add("kind 0")
    assert len(warnings.as_list()) == 50
    assert warnings.as_list()[0] == "kind 0 (201 times)"
