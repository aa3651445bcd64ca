"""Supermemory, memobase, cognee's COGX, and tables of one's own."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from engram.importers import source
from tests.unit.importing import items, lines, opened, texts, warnings_of, without_made_id

STATIC = {"content": "Likes tea", "isStatic": True, "metadata": {"k": 1}}
REQUEST = {"memories": [STATIC, {"content": "Has a dog"}], "containerTag": "user_1"}
PROFILE = {
    "id": "p1", "content": "Alice", "attributes": {"topic": "basic_info", "sub_topic": "name"},
    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
}  # fmt: skip
ANSWER = {"data": {"profiles": [PROFILE]}, "errno": 0, "errmsg": ""}


def cogx(kind: str, **fields: Any) -> dict[str, Any]:
    about = {"external_system": "mem0", "external_id": "1", "scope": {}, "metadata": {}}
    return {**about, "kind": kind, **fields}


MEMORY = cogx("memory", content="Likes tea", categories=["pref"], scope={"user_id": "alice"})
FACT = cogx("fact", subject_ref="a", predicate="likes", object_ref="b", fact_text="A likes B")
ARCHIVE = {
    "manifest.json": json.dumps({"cogx_version": "0.1", "counts": {"memory": 1}}).encode(),
    "documents.jsonl": lines(cogx("document", content="A passage", title="T")),
    "episodes.jsonl": lines(cogx("episode", turns=[{"role": "user", "content": "hi"}])),
    "entities.jsonl": lines(cogx("entity", name="Alice")),
    "facts.jsonl": lines(FACT, cogx("fact", subject_ref="a", predicate="in", object_ref="b")),
    "memories.jsonl": lines(MEMORY),
    "memory_blocks.jsonl": lines(cogx("memory_block", label="human", value="Name: Alice")),
    "nodes.jsonl": lines({"id": "n1", "type": "TextSummary", "text": "no memory"}),
}


def tarred(files: Mapping[str, bytes], folder: str = "") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(folder + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


@pytest.mark.parametrize("indent", [None, 2])
def test_a_request_of_supermemory_belongs_to_its_tag(indent: int | None) -> None:
    data = json.dumps(REQUEST, indent=indent).encode()
    assert opened(data).format == "supermemory"
    first, second = (without_made_id(item) for item in items(data))
    assert first == {
        "content": "Likes tea", "user_id": "user_1", "source": "supermemory",
        "metadata": {"k": 1, "isStatic": True},
    }  # fmt: skip
    assert second == {"content": "Has a dog", "user_id": "user_1", "source": "supermemory"}


@pytest.mark.parametrize("indent", [None, 1])
def test_requests_in_a_row_keep_each_its_own_tag(indent: int | None) -> None:
    requests = ({"memories": [{"content": t}], "containerTag": t} for t in ("a", "b"))
    data = b"\n".join(json.dumps(request, indent=indent).encode() for request in requests)
    assert [(i["content"], i["user_id"]) for i in items(data)] == [("a", "a"), ("b", "b")]


def test_entries_of_supermemory_that_are_stale_or_forgotten_do_not_come_alive() -> None:
    entry = {"id": "a", "memory": "Likes tea", "isStatic": False, "createdAt": 1767225600000}
    stale, gone = {**entry, "isLatest": False}, {**entry, "isForgotten": True}
    [item] = items([stale])
    assert (item["state"], item["external_id"]) == ("superseded", "a")
    assert item["created_at"] == "2026-01-01T00:00:00+00:00"
    assert texts([entry, gone]) == ["Likes tea", "deleted"]


def test_several_tags_are_kept_and_name_no_user() -> None:
    [one, two] = items([{**STATIC, "containerTags": tags} for tags in (["u1"], ["u1", "team"])])
    assert one["user_id"] == "u1"
    assert "user_id" not in two
    assert two["metadata"]["containerTags"] == ["u1", "team"]


@pytest.mark.parametrize(
    "body", [ANSWER, [PROFILE], lines(PROFILE), lines(ANSWER, ANSWER), PROFILE]
)
def test_a_profile_of_memobase_keeps_its_topics(body: Any) -> None:
    assert opened(body).format == "memobase"
    assert items(body)[0] == {
        "content": "Alice", "external_id": "p1", "source": "memobase",
        "categories": ["basic_info"], "created_at": "2026-01-01T00:00:00+00:00",
        "updated_at": "2026-01-02T00:00:00+00:00",
        "metadata": {"topic": "basic_info", "sub_topic": "name"},
    }  # fmt: skip


def test_profiles_of_several_users_belong_to_their_keys() -> None:
    body = {"alice": [PROFILE], "bob": [{**PROFILE, "id": "p2"}]}
    assert opened(body).format == "memobase"
    assert [item["user_id"] for item in items(body)] == ["alice", "bob"]


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_a_cogx_archive_gives_its_texts_and_accounts_for_the_rest(pack: Any) -> None:
    data = pack(ARCHIVE)
    assert opened(data).format == "cognee"
    assert texts(data) == [
        "A passage",
        *["kind_not_imported"] * 2,
        "A likes B",
        "kind_not_imported",
        "Likes tea",
        "Name: Alice",
        "kind_not_imported",
    ]


def test_a_cogx_archive_may_lie_in_a_folder_of_its_own() -> None:
    assert texts(tarred(ARCHIVE, "backup/")) == texts(tarred(ARCHIVE))


def test_a_cogx_memory_keeps_its_owner_categories_and_origin() -> None:
    [item] = items(lines(MEMORY))
    assert item == {
        "content": "Likes tea", "user_id": "alice", "external_id": "mem0:memory:1",
        "categories": ["pref"], "source": "cognee",
        "metadata": {"kind": "memory", "external_system": "mem0"},
    }  # fmt: skip


def test_records_of_different_origin_or_kind_never_share_an_id() -> None:
    other = {**MEMORY, "external_system": "zep"}
    ids = [item["external_id"] for item in items(lines(MEMORY, other, FACT))]
    assert len(set(ids)) == 3


def test_a_cogx_fact_that_has_ended_is_superseded() -> None:
    [item] = items(lines({**FACT, "invalid_at": "2026-01-01T00:00:00Z"}))
    assert item["state"] == "superseded"
    assert item["valid_until"] == "2026-01-01T00:00:00+00:00"


def test_an_archive_without_a_manifest_is_no_cogx_archive() -> None:
    rows = lines({"memory": "Likes tea", "user_id": "alice"})
    assert opened(zipped({"memories.jsonl": rows})).format == "mem0"


@pytest.mark.parametrize("owner", ["owner", "namespace"])
@pytest.mark.parametrize("text", ["content", "text", "memory", "fact", "body", "value"])
@pytest.mark.parametrize("kind", ["array", "lines", "csv"])
def test_every_alias_of_a_column_is_read_in_every_kind_of_file(
    owner: str, text: str, kind: str
) -> None:
    row = {"key_no": "7", text: "Likes tea", owner: "alice"}
    names = ",".join(row)
    csv = f"{names}\n7,Likes tea,alice\n".encode()
    [item] = items({"array": [row], "lines": lines(row), "csv": csv}[kind], format="postgres")
    assert (item["content"], item["user_id"]) == ("Likes tea", "alice")
    assert item["metadata"] == {"key_no": "7"}


@pytest.mark.parametrize("owner", ["owner", "namespace"])
def test_a_table_with_a_column_memory_keeps_owners_that_mem0_does_not_know(owner: str) -> None:
    row = {"id": 1, "memory": "Likes tea", owner: "alice"}
    assert opened([row]).format == "postgres"
    assert items([row])[0]["user_id"] == "alice"


@pytest.mark.parametrize("data", [b"\\N\n", b"null\n", b"\n", b"[]\n"])
def test_an_export_of_an_empty_table_holds_nothing(data: bytes) -> None:
    assert texts(data) == []


def test_a_table_header_alone_is_an_empty_export() -> None:
    assert opened(b"id,content,user_id\n").format == "postgres"
    assert texts(b"id,content,user_id\n") == []


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("rows", "content"),
    [
        (rb'[{"content":"one\\ntwo","id":1}, {"content":"x","id":2}]', "one\ntwo"),
        (rb'[{"content":"C:\\new\\Top","id":1}, {"content":"x","id":2}]', r"C:\new\Top"),
        (rb'[{"content": "one\\ntwo", "id": 1}, {"content": "x", "id": 2}]', r"one\ntwo"),
        (rb'[{"content":"one\\ntwo","id":1},{"content":"x","id":2}]', r"one\ntwo"),
        (rb'[{"content":"one\ntwo","id":1}, {"content":"x","id":2}]', "one\ntwo"),
        (rb'[{"content":"one\\ntwo","id":1}, {"content":"a\"b","id":2}]', r"one\ntwo"),
    ],
)
def test_line_breaks_alone_tell_copy_text_when_only_json_agg_spaces_rows_so(
    rows: bytes, content: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", size)
    assert items(rows)[0]["content"] == content


def test_jq_of_an_empty_answer_warns_that_there_is_nothing() -> None:
    assert warnings_of(b"") == ["The file holds nothing"]
