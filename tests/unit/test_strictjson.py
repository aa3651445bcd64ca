"""The strict reader: what it lets through can be stored as it was sent, the rest is named."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram import strictjson
from engram.errors import EngramError, MalformedError, TooLargeError

storable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner),
    max_leaves=20,
)  # fmt: skip


@given(storable)
def test_what_can_be_stored_is_read_as_json_reads_it(value: object) -> None:
    data = json.dumps(value).encode()
    assert strictjson.loads(data) == json.loads(data)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "ignore")))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    refusal = None
    value = None
    try:
        value = strictjson.loads(data)
    except EngramError as error:
        refusal = error
    assert refusal is None or (refusal.cure, refusal.status) == (refusal.cure or "?", 400)
    assert b"\\u0000" not in orjson.dumps(value)


@pytest.mark.parametrize("position", ["value", "key", "deep"])
def test_a_nul_is_found_wherever_it_is(position: str) -> None:
    text = {
        "value": b'{"a":"x\\u0000"}',
        "key": b'{"x\\u0000":1}',
        "deep": b'[[{"a":[{"b":["\\u0000"]}]}]]',
    }[position]
    with pytest.raises(MalformedError) as refused:
        strictjson.loads(text)
    assert refused.value.code == "nul_character"


def test_the_escaped_escape_of_a_nul_is_no_nul() -> None:
    assert strictjson.loads(b'"\\\\u0000"') == "\\u0000"


@pytest.mark.parametrize(
    "number", ["9" * 19, "9223372036854775807", "-9223372036854775808", "18446744073709551615"]
)
def test_integers_of_64_bits_are_exact(number: str) -> None:
    assert strictjson.loads(b'{"n":%s}' % number.encode()) == {"n": int(number)}


@pytest.mark.parametrize(
    "number",
    ["18446744073709551616", "-9223372036854775809", "1" * 25, "-" + "9" * 40, "1" * 300],
)
def test_longer_integers_are_refused_instead_of_rounded(number: str) -> None:
    with pytest.raises(MalformedError) as refused:
        strictjson.loads(b'{"n":%s}' % number.encode())
    assert refused.value.code == "number_too_large"


def test_long_digits_in_texts_and_fractions_are_no_integers() -> None:
    body = b'{"a":"12345678901234567890123","b":0.1234567890123456789012,"c":1e30}'
    assert strictjson.loads(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"NaN", b"Infinity", b"1e400", b"1e130000", b'"\\ud800"', b'"\xff"', b'"\n"'),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}", b"{} {}", b"01", b"+1", b"'x'"),
    ],
)
def test_what_is_no_json_is_malformed_and_never_quoted(body: bytes) -> None:
    with pytest.raises(MalformedError) as refused:
        strictjson.loads(body, what="message")
    assert refused.value.code == "malformed_json"
    assert refused.value.detail.startswith("The message is not valid JSON")
    assert len(refused.value.detail) < 200


def test_a_long_integer_too_deep_to_be_checked_is_refused() -> None:
    with pytest.raises(MalformedError) as refused:
        strictjson.loads(b'{"n":12345678901234567890,"deep":' + b"[" * 1000 + b"]" * 1000 + b"}")
    assert refused.value.code == "too_deep"


def test_a_text_over_the_limit_is_too_large_before_it_is_read() -> None:
    assert strictjson.loads(b"[1]", max_bytes=3) == [1]
    with pytest.raises(TooLargeError):
        strictjson.loads(b"[[[[", max_bytes=3)
