"""Search and context requests are checked strictly, every fault with its pointer."""

from typing import Any

import pytest

from engram.domain.filters import Condition
from engram.errors import InvalidError
from engram_ingest.questions import ContextRequest, SearchRequest, decode_context, decode_search


def test_absent_and_null_fields_have_their_defaults() -> None:
    body = {"query": "tea", "namespace": None, "limit": None, "rank": None, "filters": None}
    assert decode_search(body) == decode_search({"query": "tea"})
    assert decode_search(body) == SearchRequest("tea", None, Condition(), 10, None, "similarity")
    assert decode_context({"query": "tea"}) == ContextRequest(
        "tea", None, Condition(), 20, 1000, "bullets"
    )


@pytest.mark.parametrize(
    "edge", [{"limit": 1}, {"limit": 100}, {"min_score": -1}, {"min_score": 1}]
)
def test_the_ends_of_each_range_are_allowed(edge: dict[str, Any]) -> None:
    [(name, value)] = edge.items()
    assert getattr(decode_search({"query": "tea", **edge}), name) == value


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/query", "missing"),
        ({"query": " "}, "/query", "empty"),
        ({"query": "x" * 32_769}, "/query", "too_long"),
        ({"query": 5}, "/query", "wrong_type"),
        ({"query": "a", "top_k": 5}, "/top_k", "unknown_field"),
        ({"query": "a", "limit": 0}, "/limit", "out_of_range"),
        ({"query": "a", "limit": 101}, "/limit", "out_of_range"),
        ({"query": "a", "limit": True}, "/limit", "wrong_type"),
        ({"query": "a", "limit": 1.5}, "/limit", "wrong_type"),
        ({"query": "a", "min_score": 1.01}, "/min_score", "out_of_range"),
        ({"query": "a", "min_score": float("nan")}, "/min_score", "out_of_range"),
        ({"query": "a", "rank": "best"}, "/rank", "unknown_value"),
        ({"query": "a", "namespace": "a\nb"}, "/namespace", "control_character"),
        ({"query": "a", "namespace": "n" * 257}, "/namespace", "too_long"),
        ({"query": "a", "filters": {"who": "x"}}, "/filters/who", "unknown_field"),
        ([], "", "wrong_type"),
    ],
)
def test_a_wrong_search_names_the_place_and_the_reason(body: Any, pointer: str, code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        decode_search(body)
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [(pointer, code)]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("max_tokens", 0, "out_of_range"),
        ("max_tokens", 100_001, "out_of_range"),
        ("format", "markdown", "unknown_value"),
        ("rank", "blended", "unknown_field"),
    ],
)
def test_a_wrong_context_request_names_the_place(field: str, value: Any, code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        decode_context({"query": "a", field: value})
    assert [(f.pointer, f.code) for f in caught.value.faults] == [(f"/{field}", code)]


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidError) as caught:
        decode_search({"limit": 0, "rank": 1, "x": 1})
    assert {fault.pointer for fault in caught.value.faults} == {"/limit", "/rank", "/x", "/query"}
