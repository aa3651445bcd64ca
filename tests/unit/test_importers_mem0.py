"""mem0: every generation of its lists, its own migration's files, and its plugin's Markdown."""

import io
import json
from hashlib import sha256
from typing import Any

import pytest

from engram.domain.memory import decode_item
from engram.errors import MalformedError
from engram.importers.reading import read, read_value
from engram.importers.source import Limits

PLATFORM: dict[str, Any] = {
    "id": "m1", "memory": "Likes tea", "user_id": "alice", "agent_id": "bot", "app_id": "shop",
    "session_id": "s1", "metadata": {"source": "crm"}, "categories": ["food"],
    "created_at": "2026-01-15T10:30:00Z", "updated_at": "2026-01-15T10:30:00Z",
    "expiration_date": None, "structured_attributes": {"day": 15}, "replaced_by": None,
    "synthesized": False, "lifecycle_state": None,
    "score": 0.9, "score_breakdown": {"semantic": 0.9, "bm25": 0, "entity": 0},
}  # fmt: skip


def items(value: Any, **options: Any) -> list[dict[str, Any]]:
    opened = read_value(value, **options)
    found = list(opened)
    assert all(f.fault is None for f in found), found
    return [f.item or {} for f in found]


def codes(value: Any) -> list[str | None]:
    return [f.fault.code if f.fault else None for f in read_value(value)]


def test_a_platform_row_keeps_every_owner_and_what_has_no_place_in_the_metadata() -> None:
    [item] = items([PLATFORM])
    assert item == {
        "content": "Likes tea", "external_id": "m1", "source": "mem0", "user_id": "alice",
        "agent_id": "bot", "session_id": "s1", "app_id": "shop", "categories": ["food"],
        "created_at": "2026-01-15T10:30:00+00:00", "updated_at": "2026-01-15T10:30:00+00:00",
        "metadata": {"source": "crm", "structured_attributes": {"day": 15}, "synthesized": False},
    }  # fmt: skip
    assert decode_item(item, imported=True).namespace == "user:alice"


def test_saved_pages_in_one_array_are_read_like_one_list() -> None:
    pages = [
        {"count": 2, "next": "?page=2", "previous": None, "results": [PLATFORM]},
        {"count": 2, "next": None, "previous": "?page=1", "results": [{**PLATFORM, "id": "m2"}]},
    ]
    opened = read_value(pages)
    assert [f.external_id for f in opened] == ["m1", "m2"]
    assert opened.warnings == []


@pytest.mark.parametrize("text", ["None", "", " \t ", None], ids=repr)
def test_a_text_that_an_export_job_could_not_fill_is_empty(text: Any) -> None:
    row = {"id": "m1", "content": text, "user_id": "alice", "run_id": "None", "categories": "None"}
    assert codes({"memories": [row, {**row, "content": "Likes tea"}]}) == ["empty", None]
    [_, found] = read_value({"memories": [row, {**row, "content": "Likes tea"}]})
    assert found.item is not None
    assert "categories" not in found.item


def test_a_search_answer_of_oss_is_read_without_its_scores() -> None:
    row = {"id": "u", "memory": "Likes tea", "score": 0.5, "user_id": "alice", "actor_id": "bob"}
    [item] = items({"results": [row], "relations": []})
    assert item["metadata"] == {"actor_id": "bob"}


def test_labels_that_are_none_here_stay_in_the_metadata() -> None:
    opened = read_value([{**PLATFORM, "categories": ["x" * 200]}])
    [found] = opened
    assert found.item is not None
    assert found.item["metadata"]["categories"] == ["x" * 200]
    assert decode_item(found.item, imported=True).categories == []
    assert len(opened.warnings) == 1


def migration(*records: dict[str, Any]) -> dict[str, Any]:
    source = {
        "sdk": "python", "vector_store": "qdrant", "storage": "hosted", "collection": "mem0",
        "url": "http://localhost:6333", "filters": {"user_id": "alice", "all": False},
    }  # fmt: skip
    head = {"version": 1, "kind": "mem0_oss_qdrant_export", "exported_at": "2026-01-01T00:00:00Z"}
    return {**head, "source": source, "record_count": len(records), "records": list(records)}


RECORD: dict[str, Any] = {
    "id": "point-1", "memory": "Likes tea", "hash": "9f", "created_at": "2026-01-01T00:00:00Z",
    "updated_at": None, "source": "python_oss_qdrant", "user_id": "alice", "role": "user",
    "source_payload": {"data": "Likes tea", "hash": "9f", "attributed_to": "alice"},
    "metadata": {"topic": "drinks"},
}  # fmt: skip


def test_a_record_of_mem0s_own_migration_keeps_the_key_that_migration_gives_it() -> None:
    opened = read_value(migration(RECORD))
    [found] = opened
    assert found.external_id == "point-1"
    assert found.item is not None
    assert found.item["metadata"] == {
        "topic": "drinks", "role": "user", "source": "python_oss_qdrant", "attributed_to": "alice",
        "mem0_migration_import_key": sha256(b"python:qdrant:mem0:point-1").hexdigest(),
    }  # fmt: skip
    assert (opened.format, opened.warnings) == ("mem0", [])


def test_a_migration_that_holds_fewer_records_than_it_says_is_called_incomplete() -> None:
    opened = read_value({**migration(RECORD), "record_count": 5})
    assert len(list(opened)) == 1
    assert any("record_count 5" in w for w in opened.warnings)


def test_the_review_file_gives_the_records_that_mem0s_import_did_not_take() -> None:
    def entry(status: str, record: Any) -> dict[str, Any]:
        return {"status": status, "error": "no owner", "record": record}

    records = [entry("failed", RECORD), entry("invalid", {"id": "p2", "memory": ""})]
    review = {"version": 1, "kind": "mem0_platform_import_review", "summary": {"failed": 1}}
    opened = read_value({**review, "records": [*records, entry("invalid", None)]})
    assert [f.fault.code if f.fault else None for f in opened] == [None, "empty", "empty"]
    [first, *_] = opened
    assert first.item is not None
    assert first.item["metadata"]["mem0_import_status"] == "failed"


def test_the_bare_array_of_mem0s_command_line_is_read_under_every_name_of_its_text() -> None:
    rows = [{name: "Likes tea", "user_id": "a", "metadata": {}} for name in ("memory", "text")]
    rows.append({"content": "Likes tea", "user_id": "a", "agent_id": "b"})
    assert [i["content"] for i in items(rows)] == ["Likes tea"] * 3
    assert {i["user_id"] for i in items(rows)} == {"a"}


def test_a_per_user_object_may_mix_lists_pages_and_nobody() -> None:
    body = {
        "alice": [{"text": "a", "created_at": "2026-01-01T00:00:00Z"}],
        "bob": {"results": [{"memory": "b"}], "relations": []},
        "nobody": [],
        "carl": {"results": []},
    }
    assert [(i["user_id"], i["content"]) for i in items(body)] == [("alice", "a"), ("bob", "b")]


def test_an_element_that_lies_alone_under_a_section_is_read() -> None:
    assert [i["content"] for i in items({"results": [], "data": {"memory": "x"}})] == ["x"]


MARKDOWN = b"""---
id: abc-1
created_at: 2024-01-01T00:00:00Z
type: task_learnings
confidence: 0.9
branch:
files: src/foo.py, src/bar.py
categories: coding, learnings
---
Use tabs.

---
A rule inside the text is text.

---
id: abc-2
created_at:
---
Second: keep it.
---
id: abc-3
---

"""


@pytest.mark.parametrize("data", [MARKDOWN, MARKDOWN.replace(b"\n", b"\r\n")])
def test_the_plugins_markdown_gives_a_memory_for_each_block(data: bytes) -> None:
    opened = read(io.BytesIO(data), filename="mem0-export-shop-2026-01-01.md")
    first, second, third = opened
    assert opened.format == "mem0-markdown"
    assert first.item is not None
    assert first.item["content"] == "Use tabs.\n\n---\nA rule inside the text is text."
    assert first.item["categories"] == ["coding", "learnings"]
    assert first.item["metadata"] == {
        "type": "task_learnings", "confidence": "0.9", "files": ["src/foo.py", "src/bar.py"],
    }  # fmt: skip
    assert second.item is not None
    assert (second.item["content"], second.external_id) == ("Second: keep it.", "abc-2")
    assert third.fault is not None
    assert (third.fault.code, third.line) == ("empty", 20)


def test_a_block_that_is_too_long_or_no_utf8_costs_only_itself() -> None:
    long = b"---\nid: a\n---\n" + b"x\n" * 2_000
    broken = b"---\nid: b\n---\n\xff\n"
    good = b"---\nid: c\n---\nok\n"
    opened = read(io.BytesIO(long + broken + good), limits=Limits(max_item_bytes=1_000))
    assert [f.fault.code if f.fault else f.external_id for f in opened] == [
        "too_large",
        "not_utf8",
        "c",
    ]


def test_markdown_that_is_no_export_is_refused() -> None:
    with pytest.raises(MalformedError, match="Accepted are"):
        read(io.BytesIO(b"---\ntitle: Notes\n---\nhello\n"))


def test_two_thousand_rows_of_every_owner_give_as_many_items() -> None:
    rows = [{**PLATFORM, "id": f"m{n}"} for n in range(2_000)]
    assert len({i["external_id"] for i in items({"results": rows})}) == len(rows)
    text = json.dumps({f"u{n % 50}": [{"text": f"t{n}"}] for n in range(50)}).encode()
    assert len(list(read(io.BytesIO(text)))) == 50
