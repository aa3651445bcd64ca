"""Cursors: opaque, safe in a URL, and nothing but ours is read."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import MalformedError
from engram_ingest.pages import decode_cursor, page_of

START = UUID(int=0)


def test_the_cursor_of_a_page_names_its_last_item() -> None:
    items = [{"id": str(uuid4())} for _ in range(4)]
    page = page_of(items, 3, "id")
    assert page["items"] == items[:3]
    assert decode_cursor(page["next_cursor"], UUID, START) == UUID(items[2]["id"])


def test_a_page_without_more_has_no_cursor() -> None:
    for count in range(4):
        items = [{"id": str(n)} for n in range(count)]
        assert page_of(items, 3, "id") == {"items": items, "next_cursor": None}


def test_without_a_cursor_a_list_starts_at_the_start() -> None:
    assert decode_cursor(None, UUID, START) == START


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_key_survives_its_cursor(key: str) -> None:
    cursor = page_of([{"id": key}, {"id": "more"}], 1, "id")["next_cursor"]
    assert cursor.isascii()
    assert not set(cursor) & set("+/&?# ")
    assert decode_cursor(cursor, str, "") == key


@given(st.text(max_size=40))
def test_what_is_not_ours_is_malformed(text: str) -> None:
    found, code = None, None
    try:
        found = decode_cursor(text, UUID, START)
    except MalformedError as error:
        code = error.code
    assert isinstance(found, UUID) or code == "bad_cursor"


@pytest.mark.parametrize("cursor", ["AAAA", "AA==", "YQBi"])
def test_a_nul_inside_a_cursor_is_malformed(cursor: str) -> None:
    with pytest.raises(MalformedError):
        decode_cursor(cursor, str, "")
