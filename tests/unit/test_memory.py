"""An arriving memory: its namespace, its hashes, and a decoder that names every fault."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.memory import (
    content_hash,
    decode_item,
    decode_patch,
    fold,
    fold_hash,
    namespace_of,
)
from engram.errors import InvalidError

owners = st.none() | st.text(min_size=1, max_size=5)


def faults(call: Any, *args: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(InvalidError) as refused:
        call(*args, **options)
    return {fault.pointer: fault.code for fault in refused.value.faults}


@given(owners, owners, owners, owners)
def test_the_first_owner_there_is_names_the_namespace(
    user: str | None, agent: str | None, session: str | None, app: str | None
) -> None:
    found = namespace_of(user, agent, session, app)
    named = [("user", user), ("agent", agent), ("session", session), ("app", app)]
    expected = next((f"{kind}:{owner}" for kind, owner in named if owner), "global")
    assert found == expected


@given(st.text())
def test_folding_again_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_white_space_around_and_between_words_does_not_count(text: str) -> None:
    assert fold_hash(f"  {text}\n") == fold_hash(text)
    assert fold_hash(text.replace(" ", "\t \n")) == fold_hash(text)


def test_case_counts_and_equivalent_characters_do_not() -> None:
    assert fold_hash("10 Mb/s") != fold_hash("10 MB/s")
    assert fold_hash("café") == fold_hash("cafe\u0301")
    assert content_hash("café") != content_hash("cafe\u0301")
    assert fold_hash("ﬁ") != fold_hash("fi")
    assert (len(fold_hash("a")), len(content_hash("a"))) == (16, 32)


def test_an_item_gets_its_namespace_and_source() -> None:
    memory = decode_item({"content": "x", "user_id": "u"})
    assert (memory.namespace, memory.source, memory.importance) == ("user:u", "native", 0.5)
    assert memory.owners == ("u", None, None, None)
    own = decode_item({"content": "x", "user_id": "u", "namespace": "own", "source": "crm"})
    assert (own.namespace, own.source) == ("own", "crm")


def test_every_fault_is_named_below_the_pointer() -> None:
    item = {"importance": 7, "categories": ["ok", ""], "surprise": 1}
    assert faults(decode_item, item, pointer="/data/3") == {
        "/data/3/importance": "out_of_range",
        "/data/3/categories/1": "empty",
        "/data/3/surprise": "unknown_field",
    }
    assert faults(decode_item, {}) == {"/content": "missing"}
    assert faults(decode_item, [], pointer="/0") == {"/0": "wrong_type"}


def test_an_unknown_name_is_shown_short_and_escaped() -> None:
    [pointer] = faults(decode_item, {"content": "x", "a/b~c\n" + "é" * 50: 1})
    assert pointer.startswith("/a~1b~0c\\n\\xe9")
    assert len(pointer) < 60


def test_only_an_import_carries_what_a_store_decides() -> None:
    named = "01990000-0000-7000-8000-000000000001"
    item = {"content": "x", "state": "archived", "access_count": 3, "id": named, "version": 7}
    assert faults(decode_item, item) == {
        f"/{name}": "unknown_field" for name in ("state", "access_count", "id", "version")
    }
    memory = decode_item(item, imported=True)
    assert (memory.state, memory.access_count, str(memory.id)) == ("archived", 3, named)


def test_a_merged_record_names_its_survivor_and_no_other_does() -> None:
    survivor = "01990000-0000-7000-8000-000000000002"
    merged = {"content": "x", "state": "merged", "merged_into": survivor}
    assert str(decode_item(merged, imported=True).merged_into) == survivor
    wrong = {"/merged_into": "wrong_survivor"}
    for item in ({"content": "x", "state": "merged"}, {**merged, "state": "archived"}):
        with pytest.raises(InvalidError) as refused:
            decode_item(item, imported=True)
        assert {fault.pointer: fault.code for fault in refused.value.faults} == wrong
    with pytest.raises(InvalidError):
        decode_item({"content": "x", "id": "m1"}, imported=True)


def test_a_patch_names_something_and_nothing_that_stays() -> None:
    assert decode_patch({"content": "x", "expires_at": None}) == {
        "content": "x",
        "expires_at": None,
    }
    assert faults(decode_patch, {}) == {"": "empty"}
    assert faults(decode_patch, {"namespace": "n"}) == {"/namespace": "unknown_field"}
    assert faults(decode_patch, {"content": None}) == {"/content": "wrong_type"}
    assert faults(decode_patch, 7) == {"": "wrong_type"}
