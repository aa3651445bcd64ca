"""Zep and Graphiti: facts, sessions, memory answers and edges of every generation."""

from typing import Any

import pytest

from tests.unit.importing import items, lines, opened, texts, warnings_of, without_made_id

CE_FACT = {"uuid": "u", "created_at": "2024-05-01T00:00:00Z", "fact": "Likes tea", "rating": 0.8}
CLOUD_FACT = {
    **CE_FACT, "content": "Likes tea", "name": "LIKES", "source_node_name": "Alice",
    "target_node_name": "tea", "valid_at": "2024-05-01T00:00:00Z", "invalid_at": None,
    "expired_at": None,
}  # fmt: skip
SESSION = {
    "session_id": "s1", "uuid": "x", "id": 1, "user_id": "alice", "metadata": {"k": 1},
    "facts": ["Likes tea", "Has a dog"], "created_at": "2024-05-01T00:00:00Z",
    "updated_at": "2024-05-02T00:00:00Z", "ended_at": None, "deleted_at": None,
}  # fmt: skip
EDGE = {
    "uuid": "e1", "name": "LIKES", "fact": "Alice likes tea", "source_node_uuid": "n1",
    "target_node_uuid": "n2", "episodes": ["ep1"], "created_at": "2025-01-01T00:00:00Z",
    "valid_at": "2025-01-01T00:00:00Z", "invalid_at": None, "expired_at": None, "attributes": {},
}  # fmt: skip
CREATED = "2024-05-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "body",
    [
        {"facts": ["Likes tea", "Has a dog"]},
        {"facts": ["Likes tea", "Has a dog"], "messages": [], "summary": {}, "metadata": {}},
        lines({"facts": ["Likes tea"]}, {"facts": ["Has a dog"]}),
        [{"facts": ["Likes tea", "Has a dog"]}],
    ],
)
def test_facts_that_are_strings_become_memories_of_zep(body: Any) -> None:
    assert opened(body).format == "zep"
    assert [without_made_id(item) for item in items(body)] == [
        {"content": "Likes tea", "source": "zep"},
        {"content": "Has a dog", "source": "zep"},
    ]
    assert any("name no user and no session" in w for w in warnings_of(body))
    assert warnings_of(body, placed=True) == []


def test_a_stream_of_strings_is_of_zep_when_that_is_said() -> None:
    stream = b'"Likes tea"\n"Has a dog"\n'
    assert {item["source"] for item in items(stream, format="zep")} == {"zep"}


@pytest.mark.parametrize("fact", [CE_FACT, {k: CE_FACT[k] for k in ("uuid", "created_at", "fact")}])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_fact_of_the_community_edition_keeps_its_id_time_and_rating(
    fact: dict[str, Any], wrapped: bool
) -> None:
    [item] = items({"facts": [fact]} if wrapped else [fact])
    assert item.pop("metadata", {}) == {k: v for k, v in fact.items() if k == "rating"}
    assert item == {
        "content": "Likes tea", "external_id": "u", "created_at": CREATED, "source": "zep",
    }  # fmt: skip


def test_a_fact_of_the_cloud_says_its_text_once_and_keeps_the_rest() -> None:
    [item] = items({"facts": [CLOUD_FACT]})
    assert item["content"] == "Likes tea"
    assert item["metadata"] == {
        "rating": 0.8, "name": "LIKES", "source_node_name": "Alice", "target_node_name": "tea",
        "valid_at": "2024-05-01T00:00:00Z",
    }  # fmt: skip


def test_a_fact_whose_content_differs_keeps_both_texts() -> None:
    [item] = items({"facts": [{**CE_FACT, "content": "Alice likes tea"}]})
    assert item["content"] == "Likes tea"
    assert item["metadata"]["content"] == "Alice likes tea"


@pytest.mark.parametrize("ends", ["invalid_at", "expired_at"])
@pytest.mark.parametrize("body", [{"facts": [CLOUD_FACT]}, [CLOUD_FACT], [EDGE], {"edges": [EDGE]}])
def test_a_fact_that_has_ended_is_superseded_and_never_live(body: Any, ends: str) -> None:
    inner = body if isinstance(body, list) else next(iter(body.values()))
    inner = [{**inner[0], ends: "2025-06-01T00:00:00Z"}]
    [item] = items(inner if isinstance(body, list) else {**body, next(iter(body)): inner})
    assert item["state"] == "superseded"
    wanted = "2025-06-01T00:00:00+00:00" if ends == "invalid_at" else None
    assert item.get("valid_until") == wanted


def test_an_end_that_is_no_time_ends_a_fact_all_the_same() -> None:
    [item] = items({"facts": [{**CLOUD_FACT, "invalid_at": "last spring"}]})
    assert item["state"] == "superseded"
    assert item["metadata"]["invalid_at"] == "last spring"


def test_facts_of_sessions_belong_to_its_user_and_session() -> None:
    body = {"sessions": [SESSION], "total_count": 1, "response_count": 1}
    found = items(body)
    assert [item["content"] for item in found] == ["Likes tea", "Has a dog"]
    assert {item["user_id"] for item in found} == {"alice"}
    assert {item["session_id"] for item in found} == {"s1"}
    assert found[0]["metadata"] == {
        "k": 1,
        "session": {"uuid": "x", "id": 1, "created_at": SESSION["created_at"],
                    "updated_at": SESSION["updated_at"]},
    }  # fmt: skip
    assert warnings_of(body) == []


@pytest.mark.parametrize("body", [SESSION, [SESSION], lines(SESSION, SESSION)])
def test_a_session_by_itself_keeps_its_owners(body: Any) -> None:
    assert {item["user_id"] for item in items(body)} == {"alice"}


def test_sessions_without_facts_and_deleted_ones_are_accounted_for() -> None:
    empty = {**SESSION, "session_id": "s2", "facts": None}
    gone = {**SESSION, "session_id": "s3", "facts": ["Gone"], "deleted_at": "2024-06-01T00:00:00Z"}
    assert texts({"sessions": [empty, gone], "total_count": 2, "response_count": 2}) == [
        "kind_not_imported",
        "deleted",
    ]


def test_threads_of_the_third_version_hold_no_facts_and_say_so() -> None:
    thread = {"thread_id": "t", "user_id": "a", "uuid": "u", "created_at": CE_FACT["created_at"]}
    assert texts([thread]) == ["kind_not_imported"]


def test_a_page_of_sessions_counts_sessions_and_not_their_facts() -> None:
    told = warnings_of({"sessions": [SESSION], "total_count": 2, "response_count": 1})
    assert told == ["The export is incomplete: it says total_count 2, 1 were found"]


@pytest.mark.parametrize("as_lines", [True, False])
def test_a_memory_answer_gives_each_fact_once_and_no_ended_one_comes_alive(as_lines: bool) -> None:
    ended = {**CE_FACT, "uuid": "v", "fact": "Lives in Rome", "invalid_at": "2024-06-01T00:00:00Z"}
    answer = {
        "facts": ["Likes tea", "Lives in Rome", "Has a dog"], "messages": [{"content": "hi"}],
        "relevant_facts": [CE_FACT, ended], "summary": {"content": "…"}, "metadata": {},
    }  # fmt: skip
    found = items(lines(answer, answer) if as_lines else answer)[:3]
    assert [(i["content"], i.get("state")) for i in found] == [
        ("Has a dog", None),
        ("Likes tea", None),
        ("Lives in Rome", "superseded"),
    ]
    assert found[1]["external_id"] == "u"


def test_a_relevant_fact_that_is_no_text_fails_alone() -> None:
    odd = {**CE_FACT, "fact": ["Likes tea"]}
    assert texts({"facts": ["Likes tea"], "relevant_facts": [odd, 7], "metadata": {}}) == [
        "Likes tea",
        "not_text",
        "not_a_memory",
    ]


def test_what_a_memory_answer_holds_beside_facts_is_said_to_be_left_out() -> None:
    answer = {"facts": [], "messages": [{"content": "hi"}], "relevant_facts": [CE_FACT]}
    assert "Only the facts of an answer are imported, not its messages" in warnings_of(answer)


@pytest.mark.parametrize(
    "body",
    [
        [EDGE],
        {"edges": [EDGE], "episodes": [], "nodes": []},
        {"items": [EDGE], "next_cursor": None, "total_size": 1},
        lines(EDGE, EDGE),
        lines({"items": [EDGE], "next_cursor": None}, {"items": [EDGE], "next_cursor": None}),
        lines({"edges": [EDGE], "episodes": [], "nodes": []}, {"edges": [], "nodes": []}),
    ],
)
def test_edges_are_the_same_facts_in_every_wrapping(body: Any) -> None:
    assert opened(body).format == "zep-edges"
    found = items(body)
    assert found[0] == {
        "content": "Alice likes tea", "external_id": "e1", "source": "zep",
        "created_at": "2025-01-01T00:00:00+00:00",
        "metadata": {
            "name": "LIKES", "source_node_uuid": "n1", "target_node_uuid": "n2",
            "episodes": ["ep1"], "valid_at": "2025-01-01T00:00:00Z",
        },
    }  # fmt: skip


def test_edges_of_the_fourth_version_may_lack_any_field() -> None:
    body = {"items": [{"fact": "x"}, {"uuid": "e2"}], "next_cursor": None, "total_size": 2}
    assert opened(body).format == "zep-edges"
    assert texts(body) == ["x", "empty"]


def test_a_page_of_edges_with_a_cursor_is_called_an_incomplete_page() -> None:
    told = warnings_of({"items": [EDGE], "next_cursor": "abc", "total_size": 40})
    assert any("incomplete page" in warning for warning in told)
    assert any("total_size 40, 1 were found" in warning for warning in told)


def test_vectors_and_ranks_of_a_dump_are_dropped_and_its_group_is_kept() -> None:
    edge = {**EDGE, "fact_embedding": [0.1], "group_id": "g", "score": 1.0, "relevance": 0.9}
    [item] = items([{**edge, "reference_time": "2025-01-01", "selection_rank": 1, "scope": "edge"}])
    assert item["metadata"].keys() & {"fact_embedding", "score", "relevance"} == set()
    assert item["metadata"]["group_id"] == "g"
    assert item["metadata"]["reference_time"] == "2025-01-01"


def test_attributes_are_metadata_and_never_hide_a_column() -> None:
    [item] = items([{**EDGE, "attributes": {"strength": 0.9, "name": "tea"}}])
    assert item["metadata"]["strength"] == 0.9
    assert (item["metadata"]["name"], item["metadata"]["zep_name"]) == ("tea", "LIKES")


def test_a_fact_told_in_a_thousand_episodes_still_fits() -> None:
    [item] = items([{**EDGE, "episodes": [f"episode-{n}" for n in range(1000)]}])
    assert len(item["metadata"]["episodes"]) == 100
    assert item["metadata"]["episodes_count"] == 1000


def test_edges_say_that_they_name_no_user_and_what_is_left_out_beside_them() -> None:
    told = warnings_of({"edges": [EDGE], "episodes": [{"uuid": "p"}], "nodes": [{"uuid": "n"}]})
    assert sum("name no user" in w for w in told) == 1
    placed = warnings_of({"edges": [EDGE], "episodes": [], "nodes": []}, placed=True)
    assert not any("name no user" in w for w in placed)
    assert sum("left out" in w for w in told) == 2
