"""What holds of the guard for any text: reflexive, symmetric, total, bounded in time."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from engram.domain.guard import Kind, examine

MIRROR = {Kind.CONTAINS_A: Kind.CONTAINS_B, Kind.CONTAINS_B: Kind.CONTAINS_A}
WORDS = st.sampled_from([
    "the", "user", "Anna", "Ben", "prefers", "tea", "coffee", "to", "not", "only", "3", "kg",
    "5", "pm", "on", "Monday", ",", ".", "(", ")", ":", "and", "or", "if", "is", "was", "sold",
    "bought", "a", "dog", "'s", "1,200", "$", "€", "half", "past", "six", "of", "every", "day",
    "never", "lives", "in", "Porto", "who", "-", "/",
])  # fmt: skip
SENTENCES = st.lists(WORDS, max_size=14).map(" ".join)
EXTREME_S = 2.0


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_it_fail(a: str, b: str) -> None:
    assert examine(a, b).rule_version


@given(st.one_of(st.text(max_size=200), SENTENCES))
@settings(max_examples=100, deadline=None)
def test_a_text_is_the_same_as_itself(text: str) -> None:
    assert examine(text, text).kind is Kind.SAME


@given(SENTENCES, SENTENCES)
@settings(max_examples=300, deadline=None)
def test_the_order_of_the_two_texts_changes_the_side_only(a: str, b: str) -> None:
    there, back = examine(a, b), examine(b, a)
    assert back.proves == there.proves
    if there.proves:
        assert back.kind is MIRROR.get(there.kind, there.kind)


def test_texts_of_32_thousand_characters_take_bounded_time() -> None:
    shapes = ("a", "a ", "1 ", "and ", "(", "not ", "Anna's ", "1,", "on Monday ", "a-b", "note: ")
    for shape in shapes:
        a = (shape * 32_000)[:32_000]
        began = time.process_time()
        examine(a, a[:-1] + "x")
        examine(a[:3_900], a[:3_899] + "x")
        assert time.process_time() - began < EXTREME_S, shape
