"""LangGraph and LangMem: items of a store, by its API and from its table."""

import json
from typing import Any

import pytest

from tests.unit.importing import items, lines, opened, texts

TIMES = {"created_at": "2026-01-01T00:00:00+00:00", "updated_at": "2026-01-02T00:00:00+00:00"}
MANAGED = {"kind": "Memory", "content": {"content": "Likes tea"}}


def item(value: Any, namespace: Any = ("memories", "alice"), key: str = "k") -> dict[str, Any]:
    return {"namespace": list(namespace), "key": key, "value": value, **TIMES}


def table_row(value: Any) -> dict[str, Any]:
    row = {"prefix": "memories.alice", "key": "k", "value": value, **TIMES}
    return {**row, "expires_at": "2027-01-01T00:00:00+00:00", "ttl_minutes": 60.0}


@pytest.mark.parametrize("value", [MANAGED, {"content": "Likes tea"}, {"text": "Likes tea"}])
def test_the_text_is_found_in_what_each_writer_makes(value: dict[str, Any]) -> None:
    assert opened([item(value)]).format == "langgraph"
    [found] = items([item(value)])
    assert found.pop("metadata").get("kind") == value.get("kind")
    assert found == {
        "content": "Likes tea", "user_id": "alice", "external_id": "memories.alice/k",
        "source": "langgraph", **TIMES,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        [item(MANAGED)],
        item(MANAGED),
        {"items": [item(MANAGED)]},
        lines(item(MANAGED)),
        json.dumps(item(MANAGED), indent=1).encode(),
        [{**item(MANAGED), "score": 0.4}],
    ],
)
def test_items_are_the_same_in_every_wrapping(body: Any) -> None:
    assert opened(body).format == "langgraph"
    [found] = items(body)
    assert (found["content"], found["user_id"]) == ("Likes tea", "alice")


def test_items_of_the_javascript_store_keep_their_times() -> None:
    row = {k: v for k, v in item(MANAGED).items() if k not in TIMES}
    row |= {"createdAt": TIMES["created_at"], "updatedAt": TIMES["updated_at"]}
    assert TIMES.items() <= items([row])[0].items()


@pytest.mark.parametrize("as_text", [True, False])
def test_rows_of_the_table_are_the_same_memories_and_may_expire(as_text: bool) -> None:
    row = table_row(json.dumps(MANAGED) if as_text else MANAGED)
    assert opened([row]).format == "langgraph"
    [found] = items([row])
    assert found["external_id"] == items([item(MANAGED)])[0]["external_id"]
    assert found["expires_at"] == "2027-01-01T00:00:00+00:00"
    assert found["metadata"]["ttl_minutes"] == 60.0


def test_the_table_as_csv_is_read_too() -> None:
    data = (
        b"prefix,key,value,created_at,updated_at,expires_at,ttl_minutes\n"
        b'memories.alice,k,"{""content"": ""says \\""hi\\""""}",2026-01-01 00:00:00+00,,,\n'
    )
    assert opened(data).format == "langgraph"
    [found] = items(data)
    assert (found["content"], found["user_id"]) == ('says "hi"', "alice")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ({"content": {"name": "Bob", "age": 41}}, '{"name": "Bob", "age": 41}'),
        ({"kind": "UserProfile", "content": {"name": "Bö"}}, '{"name": "Bö"}'),
        ({"content": ["a", 1]}, '["a", 1]'),
        ({"content": 7}, "7"),
        ({"food_preference": "pizza"}, '{"food_preference": "pizza"}'),
        ("bare", "bare"),
    ],
)
def test_a_value_that_is_any_json_is_kept_as_its_text(value: Any, content: str) -> None:
    assert items([item(value)])[0]["content"] == content


@pytest.mark.parametrize(
    "value", [{}, {"content": ""}, {"content": None}, None, "", [], {"content": {}}]
)
def test_a_value_without_anything_in_it_is_reported_as_empty(value: Any) -> None:
    assert texts([item({"content": "x"}), item(value)]) == ["x", "empty"]


def test_a_value_that_nests_without_end_is_refused_by_name() -> None:
    deep = b"[" * 1_010 + b"]" * 1_010
    row = json.dumps(item({"content": "DEEP"})).encode().replace(b'"DEEP"', deep)
    assert texts(lines(item({"content": "x"})) + row) == ["x", "too_deep"]


def test_what_stands_beside_the_text_is_metadata() -> None:
    value = {"text": "Drives a blue car", "source": "form", "created_at": "yesterday"}
    assert items([item(value)])[0]["metadata"] == {
        "source": "form",
        "created_at": "yesterday",
        "namespace": ["memories", "alice"],
    }


@pytest.mark.parametrize(
    ("namespace", "owners"),
    [
        (("memories", "alice"), {"user_id": "alice"}),
        (("alice", "memories"), {"user_id": "alice"}),
        (("prefs",), {}),
        ((), {}),
        (("alice",), {"user_id": "alice"}),
        (("alice", "chitchat"), {"user_id": "alice.chitchat"}),
        (("bob", "chitchat"), {"user_id": "bob.chitchat"}),
        (("users", "alice", "prefs"), {"user_id": "alice"}),
        (("agents", "bot", "memories"), {"agent_id": "bot"}),
        (("threads", "t1"), {"session_id": "t1"}),
        (("acme", "users", "alice"), {"user_id": "acme.alice"}),
        (("memories", "users"), {"user_id": "users"}),
    ],
)
def test_a_namespace_names_its_owners_and_never_mixes_two(
    namespace: tuple[str, ...], owners: dict[str, str]
) -> None:
    [found] = items([item({"content": "x"}, namespace)])
    names = ("user_id", "agent_id", "session_id", "app_id")
    assert {name: found[name] for name in names if name in found} == owners


def test_owners_in_the_value_win_over_the_namespace() -> None:
    [found] = items([item({"content": "x", "user_id": "carl"})])
    assert found["user_id"] == "carl"


def test_a_key_is_unique_in_its_namespace_only() -> None:
    rows = [
        item({"content": "x"}, namespace, key)
        for namespace, key in (
            (("a",), "b/c"),
            (("a/b",), "c"),
            (("a", "b"), "c"),
            (("a%2Fb",), "c"),
        )
    ]
    ids = [found["external_id"] for found in items(rows)]
    assert len(set(ids)) == 4


def test_a_very_long_key_still_gives_an_id_that_fits() -> None:
    ids = [items([item({"content": "x"}, key="k" * 600 + end)])[0]["external_id"] for end in "ab"]
    assert {len(found) for found in ids} == {64}
    assert ids[0] != ids[1]
