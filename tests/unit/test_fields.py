"""The rule of each field: what it lets through is stored as it is, the rest is named."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain import fields
from engram.domain.fields import FIELDS, FieldError

CHECKS = {field.name: field.check for field in FIELDS}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def code(name: str, value: Any) -> str:
    with pytest.raises(FieldError) as refused:
        CHECKS[name](value)
    assert str(refused.value)
    return refused.value.code


@given(st.sampled_from(sorted(CHECKS)), anything)
def test_a_check_returns_or_says_why_not(name: str, value: Any) -> None:
    refusal = None
    try:
        CHECKS[name](value)
    except FieldError as error:
        refusal = error
    assert refusal is None or (refusal.code and len(str(refusal)) < 200)


@given(st.sampled_from(sorted(set(CHECKS) - {"content", "metadata"})), anything)
def test_what_a_check_returned_passes_it_again(name: str, value: Any) -> None:
    try:
        clean = CHECKS[name](value)
    except FieldError:
        return
    again = clean.isoformat() if isinstance(clean, datetime) else clean
    assert CHECKS[name](again) == clean


def test_content_is_kept_as_sent_and_measured_once_trimmed() -> None:
    assert CHECKS["content"]("  a \n") == "  a \n"
    assert CHECKS["content"](" " * 100 + "x" * 32_768)
    assert code("content", "x" * 32_769) == "too_long"
    assert code("content", " " * 65_537 + "x") == "too_long"
    assert code("content", "\u2003\n") == "empty"
    assert code("content", "a\0b") == "nul_character"
    assert code("content", "\ud800") == "lone_surrogate"
    assert code("content", None) == "wrong_type"


@pytest.mark.parametrize("name", ["namespace", "user_id", "external_id", "source"])
def test_labels_are_trimmed_single_lines(name: str) -> None:
    assert CHECKS[name]("  a b ") == "a b"
    assert CHECKS[name](None) is None
    assert CHECKS[name]("😀\u200d") == "😀\u200d"
    assert code(name, " ") == "empty"
    assert code(name, "a\nb") == "control_character"
    assert code(name, "a\x85b") == "control_character"
    assert code(name, "\udfff") == "lone_surrogate"
    assert code(name, 7) == "wrong_type"
    assert code(name, "x" * 513) == "too_long"


def test_the_longest_owner_still_makes_a_namespace_that_fits() -> None:
    longest = "session:" + "x" * fields.MAX_OWNER_ID
    assert CHECKS["namespace"](longest) == longest
    assert code("session_id", "x" * (fields.MAX_OWNER_ID + 1)) == "too_long"


@given(st.dictionaries(st.text(max_size=5), anything, max_size=4))
def test_metadata_that_passes_is_json_of_its_size(value: dict[str, Any]) -> None:
    try:
        clean = CHECKS["metadata"](value)
    except FieldError:
        return
    assert clean == value
    assert len(json.dumps(clean, ensure_ascii=False).encode()) < 4 * fields.MAX_METADATA_BYTES


def test_metadata_is_bounded_in_size_depth_and_numbers() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value}
        return value

    assert CHECKS["metadata"](nested(15))
    assert code("metadata", nested(16)) == "too_deep"
    assert code("metadata", nested(100_000)) == "too_deep"
    assert code("metadata", {"a": "x" * 16_384}) == "too_large"
    assert code("metadata", {"x" * 16_384: 1}) == "too_large"
    assert code("metadata", {"a": list(range(5_000))}) == "too_large"
    assert code("metadata", {"a": "é" * 8_200}) == "too_large"
    assert code("metadata", {"a": float("nan")}) == "not_finite"
    assert code("metadata", {"a": float("inf")}) == "not_finite"
    assert code("metadata", {"a": 1 << 64}) == "number_too_large"
    assert code("metadata", {"a": -(1 << 63) - 1}) == "number_too_large"
    assert code("metadata", {"a\0": 1}) == "nul_character"
    assert code("metadata", {"a": ["\ud800"]}) == "lone_surrogate"
    assert code("metadata", []) == "wrong_type"
    assert CHECKS["metadata"](None) == {}


def test_categories_are_at_most_50_labels_and_the_wrong_one_is_named() -> None:
    assert CHECKS["categories"]([" a ", "b"]) == ["a", "b"]
    assert CHECKS["categories"](None) == []
    assert code("categories", ["x"] * 51) == "too_many"
    assert code("categories", "abc") == "wrong_type"
    for wrong, where in (([1], "/0"), (["a", None], "/1"), (["a", "b", "c\n d"], "/2")):
        with pytest.raises(FieldError) as refused:
            CHECKS["categories"](wrong)
        assert refused.value.where == where


def test_importance_lies_above_zero_and_up_to_one() -> None:
    assert CHECKS["importance"](1) == 1.0
    assert CHECKS["importance"](5e-324) == 5e-324
    assert CHECKS["importance"](None) == 0.5
    for wrong in (0, -0.0, 1.0000001, float("nan"), float("inf"), -1, 10**400):
        assert code("importance", wrong) == "out_of_range"
    assert code("importance", True) == "wrong_type"
    assert code("importance", "0.5") == "wrong_type"


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))])))
def test_a_time_is_read_back_in_utc(instant: datetime) -> None:
    try:
        instant.astimezone(UTC)
    except OverflowError:
        assert code("expires_at", instant.isoformat()) == "out_of_range"
        return
    found = CHECKS["expires_at"](instant.isoformat())
    assert found == instant
    assert found.tzinfo is UTC


def test_a_time_needs_an_offset_and_a_year_that_exists() -> None:
    assert CHECKS["created_at"]("2026-01-31T09:00:00Z") == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert code("created_at", "2026-01-31T09:00:00") == "no_offset"
    assert code("created_at", "0001-01-01T00:00:00+01:00") == "out_of_range"
    assert code("created_at", "9999-12-31T23:59:59-01:00") == "out_of_range"
    assert code("created_at", "tomorrow") == "not_a_time"
    assert code("created_at", 1_700_000_000) == "wrong_type"


def test_counts_and_states_take_only_what_the_columns_hold() -> None:
    assert CHECKS["access_count"](2**31 - 1) == 2**31 - 1
    assert code("access_count", 2**31) == "out_of_range"
    assert code("access_count", -1) == "out_of_range"
    assert code("access_count", True) == "wrong_type"
    assert CHECKS["state"]("archived") == "archived"
    for wrong in ("absorbed", "deleted", "staged", [], {}):
        assert code("state", wrong) == "unknown_state"


def test_only_what_may_change_is_patchable() -> None:
    assert {field.name for field in FIELDS if field.patchable} == {
        *("content", "metadata", "categories", "importance", "pinned"),
        *("expires_at", "valid_until"),
    }
    assert {field.name for field in FIELDS if not field.writable} == {
        *("updated_at", "last_accessed_at", "access_count", "reinforced_at", "state"),
    }
