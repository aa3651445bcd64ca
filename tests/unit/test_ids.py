"""Ids are UUIDs like any other, however fast they are made."""

from uuid import UUID

import pytest

from engram.storage.ids import new_id, to_id


def test_new_ids_are_of_version_7_and_ascend():
    ids = [new_id() for _ in range(1_000)]
    assert {one.version for one in ids} == {7}
    assert ids == sorted(set(ids))


def test_an_id_is_equal_to_the_plain_uuid_it_says_and_found_by_it():
    one = new_id()
    plain = UUID(str(one))
    assert isinstance(one, UUID)
    assert one == plain == to_id(str(one))
    assert {one: "here"}[plain] == "here"


def test_what_is_no_uuid_is_no_id():
    with pytest.raises(ValueError, match="invalid UUID"):
        to_id("not-an-id")
