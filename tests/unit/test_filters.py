"""A filter becomes bound SQL, or is refused with a pointer; nothing written in it becomes SQL."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engram.domain.filters import MAX_CONDITIONS, MAX_DEPTH, Condition, decode_filters
from engram.errors import InvalidError

OPERATORS = ["eq", "ne", "in", "gt", "gte", "lt", "lte", "contains", "icontains"]
FIELDS = ["user_id", "run_id", "namespace", "created_at", "categories", "metadata", "metadata.a.b"]
MARK = "zqx'\"$1\\; --"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["2026-01-31T09:00:00Z", "*", "a\0b", "\ud800", "9999-12-31T23:59:59-23:00"])
)
values = st.recursive(
    scalars, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part)
)
names = st.sampled_from(FIELDS) | st.text(st.characters(exclude_categories=()), max_size=8)
plausible = st.recursive(
    st.dictionaries(
        names, values | st.dictionaries(st.sampled_from(OPERATORS), values, min_size=1), max_size=3
    ),
    lambda part: st.dictionaries(
        st.sampled_from(["AND", "OR", "NOT"]), st.lists(part, max_size=3) | part, max_size=2
    ),
    max_leaves=6,
)


@given(plausible | values)
@example({"metadata.a\0": 1})
@example({"metadata.a": 1 << 64})
@example({"metadata.a": -(1 << 64) + 1})
@example({"metadata.a": float("nan")})
@example({"metadata": "\ud800"})
@example({"created_at": {"gt": None}})
@example({"user_id": "\ud800"})
def test_any_json_is_a_bound_condition_or_an_invalid_error(value: Any) -> None:
    try:
        condition = decode_filters(value)
    except InvalidError:
        return
    used = {int(number) for number in re.findall(r"\$\?(\d+)\?", condition.template)}
    assert used == set(range(len(condition.arguments)))


def marked(value: Any) -> Any:
    """The same shape with every text replaced by one that would show in SQL."""
    if isinstance(value, str):
        return MARK
    if isinstance(value, list):
        return [marked(entry) for entry in value]
    return value


@given(
    st.sampled_from([*FIELDS, f"metadata.{MARK}"]),
    st.sampled_from(OPERATORS),
    st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=3),
)
def test_no_text_of_a_filter_is_ever_part_of_the_sql(name: str, operator: str, value: Any) -> None:
    try:
        condition = decode_filters({"NOT": [{name: {operator: marked(value)}}]})
    except InvalidError:
        return
    assert "zqx" not in condition.template
    assert "--" not in condition.template
    assert condition.arguments


@pytest.mark.parametrize("value", [None, {}])
def test_no_filter_is_no_condition(value: Any) -> None:
    assert decode_filters(value) == Condition()


def test_arguments_are_numbered_from_where_the_statement_goes_on() -> None:
    condition = decode_filters({"user_id": "a", "agent_id": {"ne": "b"}})
    assert condition.numbered_from(4) == (
        "((m.user_id = $4::text) AND (m.agent_id IS DISTINCT FROM $5::text))"
    )
    assert condition.arguments == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "pointer", "code"),
    [
        ({"owner": "a"}, "/filters/owner", "unknown_field"),
        ({"user_id": {"like": "a"}}, "/filters/user_id/like", "unknown_operator"),
        ({"user_id": {}}, "/filters/user_id", "empty"),
        ({"user_id": 5}, "/filters/user_id/eq", "wrong_type"),
        ({"user_id": {"in": "abc"}}, "/filters/user_id/in", "wrong_type"),
        ({"created_at": {"gt": "yesterday"}}, "/filters/created_at/gt", "not_a_time"),
        ({"created_at": {"gt": None}}, "/filters/created_at/gt", "wrong_type"),
        ({"metadata.a": {"contains": None}}, "/filters/metadata.a/contains", "wrong_type"),
        ({"metadata.a": {"gt": True}}, "/filters/metadata.a/gt", "wrong_type"),
        ({"metadata.a": "x\0"}, "/filters/metadata.a/eq", "nul_character"),
        ({"metadata.a": float("inf")}, "/filters/metadata.a/eq", "not_finite"),
        ({"AND": []}, "/filters/AND", "wrong_type"),
        ({"OR": [{}]}, "/filters/OR/0", "wrong_type"),
        ([], "/filters", "wrong_type"),
        ("user_id", "/filters", "wrong_type"),
    ],
)
def test_a_wrong_filter_names_the_place_and_the_reason(value: Any, pointer: str, code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        decode_filters(value)
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [(pointer, code)]


def test_depth_and_number_of_conditions_are_bounded() -> None:
    deep: Any = {"user_id": "a"}
    for _ in range(MAX_DEPTH):
        deep = {"AND": [deep]}
    for value, code in (
        (deep, "too_deep"),
        ({"OR": [{"user_id": "a"}] * (MAX_CONDITIONS + 1)}, "too_many"),
    ):
        with pytest.raises(InvalidError) as caught:
            decode_filters(value)
        assert caught.value.faults[0].code == code
