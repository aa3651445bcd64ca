"""What a migration takes: arithmetic that a person can check by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.budget import quota_of
from engram.domain.migration_plan import (
    Counted,
    Rates,
    hnsw_bytes,
    make_plan,
    remaining_s,
    rest_s,
    table_bytes,
)
from engram.domain.migration_request import decode_choice, decode_options, decode_plan
from engram.domain.prices import price_of
from engram.domain.spaces import parse_embedding
from engram.errors import InvalidError

VOYAGE = parse_embedding("voyage:voyage-4@1024")
COUNTED = Counted(
    rows=100_000,
    distinct=90_000,
    sampled=1_000,
    sampled_tokens=150_000,
    workspaces=1,
    namespaces=10,
    indexed_rows=100_000,
)


def test_a_plan_is_what_its_counts_amount_to() -> None:
    quota = quota_of("voyage", "voyage-4")
    assert quota is not None
    plan = make_plan("minilm", VOYAGE, COUNTED, Rates(quota))
    assert plan.tokens == 13_500_000
    assert plan.cost_usd == pytest.approx(0.81)
    assert plan.eta_s == pytest.approx(13_500_000 / quota.tokens_per_s, abs=0.1)
    assert plan.eta_from == "limits"
    assert plan.requests >= 90_000 / 512
    half = make_plan("minilm", VOYAGE, COUNTED, Rates(quota, learned_share=0.5, share=0.5))
    assert half.eta_s == pytest.approx(4 * plan.eta_s, rel=1e-3)


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    spec = parse_embedding("openai:some-model@64")
    plan = make_plan("minilm", spec, COUNTED, Rates(None))
    assert (plan.cost_usd, plan.eta_s, plan.eta_from) == (None, None, "unknown")
    paid = make_plan("minilm", spec, COUNTED, Rates(None, paid=2.0, texts_per_s=100.0))
    assert (paid.cost_usd, paid.eta_s, paid.eta_from) == (27.0, 900.0, "measured")


def test_an_empty_store_takes_nothing() -> None:
    plan = make_plan("minilm", VOYAGE, Counted(0, 0, 0, 0, 0, 0, 0), Rates(None, texts_per_s=1.0))
    assert (plan.tokens, plan.requests, plan.cost_usd, plan.eta_s) == (0, 0, 0.0, 0.0)
    assert (plan.disk_bytes, plan.index_bytes) == (0, 0)


def test_a_local_model_costs_nothing() -> None:
    assert price_of("minilm", "all-minilm-l6-v2", 5.0) == 0.0
    assert price_of("openai", "unheard-of") is None


@given(st.integers(0, 10**7), st.integers(1, 3072))
def test_more_rows_and_longer_vectors_never_take_less(rows: int, dimensions: int) -> None:
    for size in (table_bytes, hnsw_bytes):
        assert size(rows, dimensions) >= rows * 2 * dimensions
        assert size(rows + 1, dimensions) >= size(rows, dimensions)


@given(st.floats(0.01, 1), st.floats(0, 1e4), st.floats(0, 1e6), st.none() | st.floats(1, 1e6))
def test_a_share_is_kept_over_work_and_rest(
    share: float, busy_s: float, tokens: float, tokens_per_s: float | None
) -> None:
    rest = rest_s(share, busy_s, tokens, tokens_per_s)
    assert rest >= 0
    assert busy_s <= share * (busy_s + rest) * 1.0001
    if tokens_per_s is not None and share < 1:
        assert tokens <= share * tokens_per_s * (busy_s + rest) * 1.0001


def test_the_rest_of_a_backfill_takes_as_long_as_it_took_so_far() -> None:
    assert remaining_s(500, 250, 10.0) == 20.0
    assert remaining_s(500, 0, 10.0) is None
    assert remaining_s(0, 0, 0.0) == 0.0


def test_a_request_for_a_plan_is_read_with_its_defaults() -> None:
    asked = decode_plan({"to": "null@128", "share": 0.5})
    assert asked.target.key == "null:shake-1@128"
    assert asked.options["share"] == 0.5
    assert asked.options["order"] == "most_read"
    assert asked.workspaces is None
    assert asked.measure


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({}, "/to"),
        ([], ""),
        ({"to": "nobody"}, "/to"),
        ({"to": "null", "share": 0}, "/share"),
        ({"to": "null", "share": True}, "/share"),
        ({"to": "null", "share": "half"}, "/share"),
        ({"to": "null", "order": "largest"}, "/order"),
        ({"to": "null", "workspaces": []}, "/workspaces"),
        ({"to": "null", "workspaces": ["a", 7]}, "/workspaces/1"),
        ({"to": "null", "sample": 0}, "/sample"),
        ({"to": "null", "queries": 1.5}, "/queries"),
        ({"to": "null", "measure": 1}, "/measure"),
        ({"to": "null", "speed": 1}, "/speed"),
    ],
)
def test_a_plan_that_cannot_be_read_says_where(value: object, pointer: str) -> None:
    with pytest.raises(InvalidError) as refused:
        decode_plan(value)
    assert pointer in [fault.pointer for fault in refused.value.faults]


def test_options_and_choices_that_cannot_be_read_say_where() -> None:
    for decode, value, pointer in (
        (decode_options, {}, ""),
        (decode_options, {"share": 2}, "/share"),
        (decode_options, {"to": "null"}, "/to"),
        (decode_choice, {"namespaces": "a"}, "/namespaces"),
        (decode_choice, {"judged": [{"query": "q"}]}, "/judged/0"),
        (decode_choice, {"judged": "q"}, "/judged"),
    ):
        with pytest.raises(InvalidError) as refused:
            decode(value)
        assert pointer in [fault.pointer for fault in refused.value.faults]
    assert decode_choice({}).namespaces is None
