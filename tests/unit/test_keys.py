"""API keys: their shape, a checksum that finds typing errors, and a comparison by hash."""

import string

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.keys import ApiKey, base62, make_key, parse_key

ALPHABET = string.digits + string.ascii_letters
random_bytes = st.binary(min_size=40, max_size=40)


@given(random_bytes)
def test_a_key_is_read_back_from_its_text(randomness: bytes) -> None:
    key = make_key(randomness)
    assert parse_key(key.text) == key
    prefix, live, key_id, rest = key.text.split("_")
    assert (prefix, live, key_id, len(rest)) == ("engram", "live", key.id, 38)


@given(random_bytes, st.integers(0, 62), st.sampled_from(ALPHABET))
def test_any_single_wrong_character_is_noticed(randomness: bytes, at: int, wrong: str) -> None:
    text = make_key(randomness).text
    at %= len(text)
    typed = text[:at] + wrong + text[at + 1 :]
    assert (parse_key(typed) is None) == (typed != text)


@given(random_bytes, st.integers(1, 62))
def test_a_key_cut_short_or_with_more_behind_is_none(randomness: bytes, cut: int) -> None:
    text = make_key(randomness).text
    assert parse_key(text[:-cut]) is None
    assert parse_key(text + "\n") is None
    assert parse_key(f" {text}") is None


@given(st.text(max_size=80))
def test_no_other_text_is_a_key(text: str) -> None:
    assert parse_key(text) is None


def test_a_key_matches_only_its_own_hash() -> None:
    one, two = make_key(bytes(40)), make_key(bytes(range(40)))
    assert one.matches(one.sha256)
    assert not one.matches(two.sha256)
    assert one.secret not in repr(one.sha256)
    assert ApiKey(one.id, two.secret).matches(two.sha256)


@given(st.integers(0, 62**6 - 1))
def test_base62_is_a_number_in_fixed_width(number: int) -> None:
    digits = base62(number, 6)
    assert len(digits) == 6
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    back = 0
    for digit in digits:
        back = back * 62 + alphabet.index(digit)
    assert back == number
