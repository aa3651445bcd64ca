"""Each published shape of an export becomes the memories it means."""

import io
import json
from typing import Any

import pytest

from engram.errors import MalformedError, UsageError
from engram.importers.reading import read, read_value


def items(value: Any, **options: Any) -> list[dict[str, Any]]:
    found = list(read_value(value, **options))
    assert all(f.fault is None for f in found), found
    return [{k: v for k, v in (f.item or {}).items() if k != "external_id"} for f in found]


TEA = {"content": "Likes tea", "source": "mem0"}


def test_a_platform_array_and_its_two_kinds_of_page_are_the_same_memory() -> None:
    row = {
        "id": "m1",
        "memory": "Likes tea",
        "user_id": "alice",
        "metadata": {"source": "crm"},
        "created_at": "2026-01-15T10:30:00Z",
        "updated_at": "2026-01-15T10:30:00Z",
    }
    page = {"count": 1, "next": None, "previous": None, "results": [row]}
    wanted = {
        **TEA,
        "user_id": "alice",
        "metadata": {"source": "crm"},
        "created_at": "2026-01-15T10:30:00+00:00",
        "updated_at": "2026-01-15T10:30:00+00:00",
    }
    for body in ([row], {"results": [row]}, page):
        opened = read_value(body)
        assert [f.external_id for f in opened] == ["m1"]
        assert opened.format == "mem0"
        assert opened.warnings == []
        assert items(body) == [wanted]


def test_a_page_that_names_a_next_one_is_called_incomplete() -> None:
    row = {"id": "m1", "memory": "Likes tea"}
    opened = read_value({"count": 9, "next": "page=2", "results": [row]})
    assert len(list(opened)) == 1
    assert [w for w in opened.warnings if "incomplete" in w] == opened.warnings
    assert len(opened.warnings) == 2


def test_pages_glued_together_are_complete_when_the_last_one_is() -> None:
    text = b'{"next":"2","results":[{"memory":"a"}]}\n{"next":null,"results":[{"memory":"b"}]}\n'
    opened = read(io.BytesIO(text))
    assert [f.item and f.item["content"] for f in opened] == ["a", "b"]
    assert opened.warnings == []


@pytest.mark.parametrize("mark", [{"replaced_by": "m2"}, {"lifecycle_state": "superseded"}])
def test_a_row_that_was_replaced_or_merged_is_superseded(mark: dict[str, str]) -> None:
    [item] = items([{"id": "m1", "memory": "Likes tea", **mark}])
    assert item["state"] == "superseded"
    assert item["metadata"] == mark


@pytest.mark.parametrize(
    "mark", [{"replaced_by": None}, {"replaced_by": "None"}, {"lifecycle_state": "active"}]
)
def test_a_row_whose_lifecycle_says_nothing_is_active(mark: dict[str, Any]) -> None:
    assert "state" not in items([{"memory": "Likes tea", **mark}])[0]


def test_an_expiration_date_still_counts_on_its_own_day() -> None:
    [item] = items([{"memory": "Trial", "expiration_date": "2030-01-31"}])
    assert item["expires_at"] == "2030-02-01T00:00:00+00:00"
    assert "metadata" not in item


def test_an_expiration_date_that_is_no_date_is_kept_and_never_expires() -> None:
    opened = read_value([{"memory": "Trial", "expiration_date": "soon"}])
    [found] = opened
    assert found.item is not None
    assert found.item["metadata"] == {"expiration_date": "soon"}
    assert "expires_at" not in found.item
    assert len(opened.warnings) == 1


def test_the_string_none_of_an_export_job_is_no_value() -> None:
    row = dict.fromkeys(("agent_id", "app_id", "user_id", "metadata", "created_at"), "None")
    row |= {"id": "m1", "content": "Likes tea", "run_id": "r1", "updated_at": "None"}
    assert items({"memories": [row]}) == [{**TEA, "session_id": "r1"}]


def test_oss_results_keep_extra_columns_and_say_that_relations_are_left_out() -> None:
    row = {"id": "u", "memory": "Likes tea", "hash": "9f", "metadata": {"k": 1}, "role": "user"}
    opened = read_value({"results": [row], "relations": [{"source": "alice"}]})
    [found] = opened
    assert found.item is not None
    assert found.item["metadata"] == {"k": 1, "role": "user"}
    assert len(opened.warnings) == 1
    assert "relations" in opened.warnings[0]


def test_relations_that_come_first_do_not_hide_the_memories() -> None:
    relations = [{"source": str(n)} for n in range(200)]
    assert items({"relations": relations, "results": [{"memory": "Likes tea"}]}) == [TEA]


@pytest.mark.parametrize("payload_as_text", [False, True])
def test_a_pgvector_row_has_its_text_owners_and_metadata_in_the_payload(
    payload_as_text: bool,
) -> None:
    payload = {"data": "Likes tea", "user_id": "alice", "hash": "9f", "priority": 3}
    row: dict[str, Any] = {"id": "u", "vector": [0.1], "payload": json.dumps(payload)}
    if not payload_as_text:
        row["payload"] = payload
    assert items([row]) == [{**TEA, "user_id": "alice", "metadata": {"priority": 3}}]


def test_a_per_user_object_gives_its_key_to_rows_without_a_user() -> None:
    rows = [{"text": "Likes tea"}, {"text": "Likes tea", "user_id": "carl"}]
    found = items({"alice": rows, "bob": [], "dora": {"results": [{"memory": "Likes tea"}]}})
    assert [f["user_id"] for f in found] == ["alice", "carl", "dora"]


def test_a_reserved_key_wins_over_the_per_user_reading() -> None:
    opened = read_value({"alice": [{"memory": "a"}], "results": [{"memory": "b"}]})
    assert [f.item and f.item["content"] for f in opened] == ["b"]
    assert any("alice" in w for w in opened.warnings)


def test_memories_with_a_namespace_are_native_and_keep_it() -> None:
    body = {"memories": [{"content": "Likes tea", "namespace": "user:alice"}]}
    [item] = items(body)
    assert item == {"content": "Likes tea", "namespace": "user:alice", "source": "native"}


def test_a_native_record_survives_the_way_out_and_in() -> None:
    record = {
        "id": "0199", "namespace": "user:alice", "content": "Prefers email", "version": 3,
        "state": "archived", "user_id": "alice", "agent_id": None, "session_id": None,
        "app_id": None, "metadata": {"source": "crm"}, "categories": ["c"], "importance": 0.7,
        "pinned": True, "source": "zep", "external_id": "z1", "merged_into": None,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
        "expires_at": None, "valid_until": "2027-01-01T00:00:00Z", "last_accessed_at": None,
        "access_count": 4, "embedded": True,
    }  # fmt: skip
    [found] = read_value([record])
    assert found.external_id == "z1"
    assert found.item == {
        "content": "Prefers email", "namespace": "user:alice", "user_id": "alice",
        "metadata": {"source": "crm"}, "categories": ["c"], "importance": 0.7, "pinned": True,
        "source": "zep", "external_id": "z1", "created_at": "2026-01-01T00:00:00+00:00",
        "updated_at": "2026-01-02T00:00:00+00:00", "valid_until": "2027-01-01T00:00:00+00:00",
        "access_count": 4, "state": "archived",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "wanted"), [("merged", "superseded"), ("superseded", "superseded")]
)
def test_a_native_record_that_was_not_live_does_not_come_alive(state: str, wanted: str) -> None:
    [item] = items([{"content": "x", "namespace": "global", "state": state}])
    assert item["state"] == wanted


def test_a_deleted_native_record_is_left_out_with_that_reason() -> None:
    [found] = read_value([{"content": "x", "namespace": "global", "state": "deleted", "id": "i"}])
    assert found.fault is not None
    assert (found.fault.code, found.external_id) == ("deleted", "i")


def test_raw_rows_take_their_text_and_owner_from_common_column_names() -> None:
    created = "2026-01-01T00:00:00+00:00"
    row: dict[str, Any] = {"content": "Likes tea", "user_id": "alice", "created_at": created}
    wanted = {"content": "Likes tea", "user_id": "alice", "source": "postgres"}
    assert items([row]) == [{**wanted, "created_at": created}]
    for text in ("text", "fact", "body", "value", "content"):
        row = {"id": 7, text: "Likes tea", "owner": "alice", "vector": "[1,2]"}
        assert items([row]) == [wanted]


@pytest.mark.parametrize(
    ("namespace", "wanted"),
    [("agent:bot", {"agent_id": "bot"}), ("alice", {"user_id": "alice"}), ("global", {})],
)
def test_a_namespace_column_of_raw_rows_names_the_owner(
    namespace: str, wanted: dict[str, str]
) -> None:
    [item] = items([{"id": 1, "body": "x", "namespace": namespace}])
    assert item == {"content": "x", "source": "postgres", **wanted}


def test_raw_rows_that_were_declared_invalid_do_not_come_alive() -> None:
    row = {"id": 1, "fact": "x", "invalid_at": "2025-01-01", "expired_at": None}
    [item] = items([row], format="postgres")
    assert item["state"] == "superseded"
    assert item["metadata"] == {"invalid_at": "2025-01-01"}


def test_only_blanks_and_none_are_no_owner() -> None:
    rows = [{"memory": "a", "user_id": name} for name in ("Nan", "null", "None", " ")]
    assert [i.get("user_id") for i in items(rows)] == ["Nan", "null", None, None]


def test_columns_that_clash_with_metadata_are_both_kept() -> None:
    [item] = items([{"memory": "a", "role": "user", "metadata": {"role": "boss"}}])
    assert item["metadata"] == {"role": "boss", "mem0_role": "user"}


def test_metadata_that_is_no_object_is_kept_under_its_name() -> None:
    rows = [{"memory": "a", "metadata": "oops"}, {"memory": "a", "metadata": '{"k": 1}'}]
    assert [i["metadata"] for i in items(rows)] == [{"metadata": "oops"}, {"k": 1}]


def test_tags_and_categories_become_categories() -> None:
    body = {"memories": [{"content": "a", "tags": ["t", " "], "categories": ["c"]}]}
    assert items(body)[0]["categories"] == ["c", "t"]


def test_numbers_as_ids_become_digits_and_blanks_are_no_owner() -> None:
    rows = [{"memory": "a", "user_id": 12345}, {"memory": "b", "user_id": "  ", "agent_id": "x"}]
    assert [i.get("user_id", i.get("agent_id")) for i in items(rows)] == ["12345", "x"]


@pytest.mark.parametrize(
    "value", [1767225600, 1767225600000, "1767225600.0", "2026-01-01 00:00:00+00", "2026-01-01"]
)
def test_times_come_in_many_notations(value: Any) -> None:
    [item] = items([{"memory": "a", "created_at": value}])
    assert item["created_at"] == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "body",
    [
        [{"foo": 1}],
        [1, 2],
        {},
    ],
)
def test_an_unknown_shape_is_refused_saying_what_is_accepted(body: Any) -> None:
    with pytest.raises(MalformedError, match=r"Accepted are native: .*mem0: .*postgres: "):
        read_value(body)


def test_a_named_format_is_used_without_detection_and_must_exist() -> None:
    assert read_value([{"content": "x", "user_id": "a"}], format="postgres").format == "postgres"
    with pytest.raises(UsageError, match=r"native, mem0, .*postgres"):
        read_value([], format="pinecone")
