"""A plain native item is taken as it stands: just what the long way would make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.importers import native
from engram.importers.record import Element, ItemError, Warnings

TEXTS = st.sampled_from(["fact", " padded ", "", " ", "None", "none", "0", "é", "\t"])
VALUES = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(0, 1),
    st.lists(TEXTS, max_size=2),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
NAMES = st.sampled_from(
    sorted(native._PLAIN | {"id", "state", "created_at", "categories", "run_id", "hash", "other"})
)
ITEMS = st.one_of(
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.builds(
        lambda content, rest: {**rest, "content": content},
        TEXTS,
        st.dictionaries(st.sampled_from(sorted(native._PLAIN)), TEXTS | st.just({"a": "b"})),
    ),
    TEXTS,
)


@given(ITEMS)
def test_what_is_taken_as_it_stands_is_what_the_long_way_makes_of_it(value):
    plain = native._plain(value)
    if plain is None:
        return
    warnings = Warnings()
    assert plain == native._understood(Element(1, value=value), warnings)
    assert warnings.as_list() == []


@pytest.mark.parametrize(
    "item",
    [
        {"content": "fact"},
        {"content": " fact ", "user_id": "ann", "external_id": "7", "metadata": {"a": 1}},
        {"content": "fact", "namespace": "team", "importance": 0.7, "pinned": True, "source": "x"},
        {"content": "fact", "metadata": {}},
    ],
)
def test_what_a_publisher_writes_is_plain(item):
    plain = native._plain(item)
    assert plain is not None
    assert plain.pop("source") == item.pop("source", "native")
    assert plain == {name: value for name, value in item.items() if value != {}}


@pytest.mark.parametrize(
    "item",
    [
        {"user_id": "ann"},
        {"content": " "},
        {"content": 1},
        {"content": "fact", "id": "7"},
        {"content": "fact", "user_id": "None"},
        {"content": "fact", "user_id": " ann"},
        {"content": "fact", "agent_id": 7},
        {"content": "fact", "metadata": '{"a": 1}'},
        {"content": "fact", "importance": None},
        {"content": "fact", "created_at": "2026-01-01T00:00:00Z"},
        {"content": "fact", "mood": "good"},
        "fact",
    ],
)
def test_what_has_to_be_understood_goes_the_long_way(item):
    assert native._plain(item) is None


def test_the_owner_of_a_file_goes_the_long_way():
    element = Element(1, owner="ann", value={"content": "fact"})
    assert native._convert(element, Warnings())["user_id"] == "ann"


def test_a_plain_item_without_text_is_still_refused():
    with pytest.raises(ItemError, match="no text"):
        native._convert(Element(1, value={"content": " "}), Warnings())
