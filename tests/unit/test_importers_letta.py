"""Letta: archival passages, and agent files of both generations."""

import json
from typing import Any

import pytest

from tests.unit.importing import items, lines, opened, texts, warnings_of, without_made_id

PASSAGE = {
    "id": "passage-1", "text": "Likes tea", "archive_id": "archive-1", "metadata": {"k": 1},
    "tags": ["pref"], "created_at": "2026-01-01T00:00:00Z", "embedding": [0.1] * 4096,
    "embedding_config": {"embedding_model": "m", "embedding_dim": 1024},
    "organization_id": "org", "is_deleted": False,
}  # fmt: skip
MESSAGE = {"role": "user", "content": [{"type": "text", "text": "secret"}]}
AGENT = {
    "id": "agent-0", "name": "Sam", "block_ids": ["block-0"], "messages": [MESSAGE],
    "in_context_message_ids": [], "embedding_config": {}, "tags": [],
}  # fmt: skip
BLOCK = {
    "id": "block-0", "label": "human", "value": "Name: Alice", "limit": 4000,
    "description": None, "metadata": {},
}  # fmt: skip


def agent_file(agents: list[Any], blocks: list[Any]) -> dict[str, Any]:
    rest = {name: [] for name in ("groups", "files", "sources", "tools", "mcp_servers", "skills")}
    about = {"metadata": {"revision_id": "066857381578"}, "created_at": "2026-01-01T00:00:00Z"}
    return {"agents": agents, "blocks": blocks, **rest, **about}


OLD_FILE = {
    "agent_type": "memgpt_agent", "name": "Sam", "version": "0.5.0", "messages": [MESSAGE],
    "core_memory": [{"label": "human", "value": "Name: Alice", "limit": 2000,
                     "created_at": "2026-01-01T00:00:00Z"}],
}  # fmt: skip


@pytest.mark.parametrize("body", [[PASSAGE], lines(PASSAGE), lines(PASSAGE, PASSAGE)])
def test_a_passage_keeps_its_text_tags_and_metadata_but_no_vector(body: Any) -> None:
    assert opened(body).format == "letta"
    assert items(body)[0] == {
        "content": "Likes tea", "external_id": "passage-1", "categories": ["pref"],
        "created_at": "2026-01-01T00:00:00+00:00", "source": "letta",
        "metadata": {"k": 1, "archive_id": "archive-1", "organization_id": "org"},
    }  # fmt: skip


def test_a_deleted_passage_is_left_out_and_accounted_for() -> None:
    assert texts([{**PASSAGE, "is_deleted": True}, PASSAGE]) == ["deleted", "Likes tea"]


def test_a_passage_is_known_by_its_id_alone_when_all_else_is_missing() -> None:
    assert opened([{"id": "passage-7", "text": "Likes tea"}]).format == "letta"


def test_passages_of_an_agent_keep_it_and_others_say_that_they_name_none() -> None:
    owned = {**PASSAGE, "agent_id": "agent-1"}
    assert items([owned])[0]["agent_id"] == "agent-1"
    assert warnings_of([owned]) == []
    assert any("name no agent" in warning for warning in warnings_of([PASSAGE]))
    assert warnings_of([PASSAGE], placed=True) == []


def test_blocks_of_an_agent_file_belong_to_the_agent_by_name_and_messages_are_left_out() -> None:
    body = agent_file([AGENT], [BLOCK])
    assert opened(body).format == "letta"
    assert [without_made_id(item) for item in items(body)] == [
        {
            "content": "Name: Alice", "agent_id": "Sam", "source": "letta",
            "metadata": {"label": "human", "limit": 4000},
        }
    ]  # fmt: skip


def test_a_block_that_agents_share_belongs_to_none_of_them() -> None:
    other = {**AGENT, "id": "agent-1", "name": "Kim"}
    [item] = items(agent_file([AGENT, other], [BLOCK]))
    assert "agent_id" not in item
    assert item["metadata"]["agents"] == ["Sam", "Kim"]


def test_blocks_are_the_same_memory_in_every_export_of_the_agent() -> None:
    renumbered = agent_file([{**AGENT, "block_ids": ["block-4"]}], [{**BLOCK, "id": "block-4"}])
    assert items(renumbered) == items(agent_file([AGENT], [BLOCK]))


@pytest.mark.parametrize("indent", [None, 2])
def test_blocks_of_the_first_generation_belong_to_the_agent_the_file_names(
    indent: int | None,
) -> None:
    data = json.dumps(OLD_FILE, indent=indent).encode()
    assert opened(data, filename="sam.af").format == "letta"
    [item] = items(data, filename="sam.af")
    assert (item["content"], item["agent_id"]) == ("Name: Alice", "Sam")
    assert item["created_at"] == "2026-01-01T00:00:00+00:00"


def test_agent_files_on_lines_do_not_lend_each_other_their_agents() -> None:
    other = agent_file([{**AGENT, "name": "Kim"}], [{**BLOCK, "value": "Name: Bob"}])
    found = items(lines(agent_file([AGENT], [BLOCK]), other), filename="all.jsonl")
    assert [(item["content"], item["agent_id"]) for item in found] == [
        ("Name: Alice", "Sam"),
        ("Name: Bob", "Kim"),
    ]


def test_agent_files_in_a_row_over_many_lines_do_not_either() -> None:
    other = agent_file([{**AGENT, "name": "Kim"}], [{**BLOCK, "value": "Name: Bob"}])
    files = (json.dumps(f, indent=1).encode() for f in (agent_file([AGENT], [BLOCK]), other))
    found = items(b"\n".join(files))
    assert [item.get("agent_id") for item in found] == [None, None]


@pytest.mark.parametrize("body", [agent_file([AGENT], [BLOCK]), OLD_FILE])
def test_an_agent_file_says_that_its_passages_are_elsewhere_and_how_to_get_them(body: Any) -> None:
    told = warnings_of(body)
    assert any("/v1/agents/{agent_id}/archival-memory" in warning for warning in told)
    assert any("Messages of an agent file are not imported" in warning for warning in told)


def test_an_agent_file_without_blocks_is_still_an_agent_file() -> None:
    reading = opened(agent_file([AGENT], []))
    assert (reading.format, list(reading)) == ("letta", [])
    assert len(reading.warnings) >= 2


def test_an_empty_block_is_named_and_stops_nothing() -> None:
    assert texts(agent_file([AGENT], [{**BLOCK, "value": ""}, BLOCK])) == ["empty", "Name: Alice"]


def test_an_agent_file_with_long_histories_keeps_its_blocks() -> None:
    long = {**AGENT, "messages": [MESSAGE] * 200_000}
    [item] = items(agent_file([long], [BLOCK]))
    assert item["content"] == "Name: Alice"


def test_a_block_whose_id_is_no_id_is_read_all_the_same() -> None:
    [item] = items(agent_file([AGENT], [{**BLOCK, "id": ["block-0"]}]))
    assert "agent_id" not in item
