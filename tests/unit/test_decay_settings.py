"""Each field of a policy comes from the most specific rule that says it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.decay import DEFAULT, Policy, kept_s
from engram.domain.decay_settings import Override, Rule, Rules, decode_changes
from engram.errors import InvalidError

overrides = st.builds(
    Override,
    half_life_days=st.none() | st.floats(0.01, 1_000),
    floor=st.none() | st.just(0.0) | st.floats(1e-6, 1),
    grace_days=st.none() | st.floats(0, 1_000),
    enabled=st.none() | st.booleans(),
)
names = st.text("ab:", max_size=4)


def test_a_workspace_without_rules_has_the_defaults() -> None:
    assert Rules().policy("user:alice") == DEFAULT == Rules().bound()


def test_exact_goes_before_longer_prefixes_before_shorter_ones_before_the_workspace() -> None:
    rules = Rules(
        [
            Rule("", True, Override(half_life_days=1, floor=0.1, grace_days=1, enabled=False)),
            Rule("user:", True, Override(half_life_days=2, floor=0.2, grace_days=2)),
            Rule("user:al", True, Override(half_life_days=3, floor=0.3)),
            Rule("user:alice", False, Override(half_life_days=4)),
        ]
    )
    assert rules.policy("user:alice") == Policy(4, 0.3, 2, False)
    assert rules.policy("user:alicia") == Policy(3, 0.3, 2, False)
    assert rules.policy("user:bob") == Policy(2, 0.2, 2, False)
    assert rules.policy("global") == Policy(1, 0.1, 1, False)


def test_a_rule_of_a_name_says_nothing_of_names_that_begin_with_it() -> None:
    rules = Rules([Rule("user:al", False, Override(floor=0.9))])
    assert rules.policy("user:alice") == DEFAULT
    assert rules.own("user:al", is_prefix=True) == Override()
    assert rules.own("user:al", is_prefix=False) == Override(floor=0.9)


@given(st.lists(st.builds(Rule, names, st.booleans(), overrides), max_size=6), names)
def test_the_bound_leaves_nothing_out(listed: list[Rule], name: str) -> None:
    rules = Rules({(rule.namespace, rule.is_prefix): rule for rule in listed}.values())
    for importance in (1e-6, 0.05, 0.5, 1.0):
        assert kept_s(importance, rules.bound()) <= kept_s(importance, rules.policy(name))


def test_null_clears_and_what_is_not_named_stays() -> None:
    own = Override(half_life_days=7, floor=0.2)
    changed = own.changed(decode_changes({"floor": None, "enabled": False}))
    assert changed == Override(half_life_days=7, enabled=False)
    assert changed.changed({"half_life_days": None, "enabled": None}).is_empty


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({}, ""),
        ({"halflife": 3}, "/halflife"),
        ({"half_life_days": 0}, "/half_life_days"),
        ({"half_life_days": True}, "/half_life_days"),
        ({"half_life_days": "30"}, "/half_life_days"),
        ({"half_life_days": 1e9}, "/half_life_days"),
        ({"floor": 1.5}, "/floor"),
        ({"floor": 1e-9}, "/floor"),
        ({"floor": -0.1}, "/floor"),
        ({"grace_days": -1}, "/grace_days"),
        ({"enabled": "no"}, "/enabled"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_pointer(body: Any, pointer: str) -> None:
    with pytest.raises(InvalidError) as refused:
        decode_changes(body)
    assert refused.value.faults[0].pointer == pointer


def test_zero_is_a_floor_that_is_never_reached() -> None:
    assert decode_changes({"floor": 0, "grace_days": 0}) == {"floor": 0.0, "grace_days": 0.0}
