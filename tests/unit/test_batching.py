"""Packing texts into calls."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.batching import (
    DEFAULT_RATIO,
    MAX_RATIO,
    MIN_RATIO,
    cut,
    estimate_tokens,
    learn_ratio,
    pack,
)

limits = st.integers(1, 20)


@given(st.lists(st.integers(0, 30)), limits, limits)
def test_batches_keep_order_and_both_limits_and_are_never_empty(tokens, max_inputs, max_tokens):
    batches = pack(tokens, tokens, max_inputs, max_tokens)
    assert [index for batch in batches for index in batch] == list(range(len(tokens)))
    for batch in batches:
        assert 1 <= len(batch) <= max_inputs
        assert len(batch) == 1 or sum(tokens[index] for index in batch) <= max_tokens


@given(st.lists(st.integers(0, 30)), limits, limits)
def test_no_batch_could_have_taken_the_next_item(tokens, max_inputs, max_tokens):
    batches = pack(tokens, tokens, max_inputs, max_tokens)
    for batch, following in itertools.pairwise(batches):
        total = sum(tokens[index] for index in batch) + tokens[following[0]]
        assert len(batch) == max_inputs or total > max_tokens


def test_an_item_over_the_limit_stands_alone():
    assert pack("abc", [1, 99, 1], 10, 10) == [[0], [1], [2]]


def test_tokens_may_be_a_function_of_the_item():
    assert pack(["aa", "b", "ccc"], len, 10, 3) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("tokens", "max_inputs", "max_tokens"), [([1], 0, 1), ([1], 1, 0), ([], 1, 1)]
)
def test_impossible_limits_and_missing_counts_are_refused(tokens, max_inputs, max_tokens):
    with pytest.raises(ValueError, match=r"at least 1|one token count"):
        pack(["text"], tokens, max_inputs, max_tokens)


@given(st.text(alphabet="ab \n"), limits)
def test_parts_join_to_the_text_and_respect_the_limit(text, max_chars):
    parts = cut(text, max_chars)
    assert "".join(parts) == text
    assert all(len(part) <= max_chars for part in parts)
    assert text == "" or all(parts)


def test_a_text_is_cut_between_words_where_it_can_be():
    assert cut("one two three four", 8) == ["one two ", "three ", "four"]
    assert cut("onetwothree", 4) == ["onet", "woth", "ree"]


def test_a_part_needs_room_for_a_character():
    with pytest.raises(ValueError, match="at least 1"):
        cut("text", 0)


def test_other_scripts_count_more_a_character_than_latin():
    latin, cyrillic, chinese, emoji = (
        estimate_tokens(letter * 100) for letter in ("a", "я", "房", "🙂")
    )
    assert latin < cyrillic < chinese < emoji


@given(st.text())
def test_an_estimate_is_at_least_one_and_grows_with_the_text(text):
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + text)


def test_a_lone_surrogate_can_be_estimated():
    assert estimate_tokens("\ud83d") >= 1


@given(
    st.floats(MIN_RATIO, MAX_RATIO),
    st.integers(-1, 10**9),
    st.none() | st.integers(-1, 10**9),
)
def test_a_learned_ratio_stays_in_its_bounds(old, estimated, actual):
    assert MIN_RATIO <= learn_ratio(old, estimated, actual) <= MAX_RATIO


@pytest.mark.parametrize("true_ratio", [0.1, 0.25, 0.9])
def test_the_ratio_converges_on_what_the_provider_counts(true_ratio):
    ratio = DEFAULT_RATIO
    for _ in range(80):
        ratio = learn_ratio(ratio, round(10_000 * ratio), round(10_000 * true_ratio))
    assert ratio == pytest.approx(true_ratio, rel=0.02)


def test_too_low_is_corrected_faster_than_too_high():
    up = learn_ratio(0.2, 100, 200) - 0.2
    down = 0.2 - learn_ratio(0.2, 200, 100)
    assert up > 2 * down


@pytest.mark.parametrize("actual", [None, 0, -5])
def test_a_call_without_a_count_teaches_nothing(actual):
    assert learn_ratio(0.2, 100, actual) == 0.2


def test_calls_answered_after_one_another_teach_where_the_ratio_is_not_how_far_to_go() -> None:
    ratio = 0.3
    for _ in range(50):
        ratio = learn_ratio(ratio, 300, 250, made_with=0.3)
    assert 0.25 <= ratio < 0.26
    for _ in range(50):
        ratio = learn_ratio(ratio, 200, 250, made_with=0.2)
    assert ratio == pytest.approx(0.25, rel=0.05)
