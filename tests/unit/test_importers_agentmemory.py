"""AgentMemory exports: every kind of row, decay state, versions, and what is left out."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from engram.domain.memory import decode_item
from engram.errors import MalformedError, UsageError
from engram.importers.reading import read, read_value
from engram.importers.source import Limits

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
REAL = EXPORTS / "agentmemory-0.9.29-export" / "input.json.gz"
MEMORY: dict[str, Any] = {
    "id": "mem_1", "createdAt": "2026-05-01T00:00:00Z", "updatedAt": "2026-05-02T00:00:00Z",
    "type": "preference", "title": "Likes tea", "content": "Likes tea", "concepts": ["drinks"],
    "files": [], "sessionIds": [], "strength": 7, "version": 1, "isLatest": True,
}  # fmt: skip


def export(**sections: Any) -> dict[str, Any]:
    whole = {"version": "0.9.5", "exportedAt": "2026-05-10T00:00:00Z", "sessions": []}
    return {**whole, "observations": {}, "summaries": [], "memories": [], **sections}


def items(value: Any, **options: Any) -> list[dict[str, Any]]:
    found = list(read_value(value, **options))
    assert all(f.fault is None for f in found), found
    return [f.item or {} for f in found]


def test_a_memory_keeps_its_times_strength_concepts_and_type() -> None:
    assert items(export(memories=[MEMORY])) == [
        {
            "content": "Likes tea", "external_id": "mem_1", "source": "agentmemory",
            "created_at": "2026-05-01T00:00:00+00:00", "updated_at": "2026-05-02T00:00:00+00:00",
            "importance": 0.7, "categories": ["drinks"],
            "metadata": {"type": "preference", "version": 1},
        }
    ]  # fmt: skip


def test_a_semantic_memory_brings_its_own_access_counts() -> None:
    row = {
        "id": "sem_1", "fact": "Deploys on Fridays", "confidence": 0.9, "strength": 0.6,
        "accessCount": 4, "lastAccessedAt": "2026-05-09T00:00:00Z",
        "createdAt": "2026-05-01T00:00:00Z", "updatedAt": "2026-05-01T00:00:00Z",
        "sourceSessionIds": ["s1"], "sourceMemoryIds": [],
    }  # fmt: skip
    [item] = items(export(semanticMemories=[row]))
    assert item["content"] == "Deploys on Fridays"
    assert (item["access_count"], item["importance"]) == (4, 0.6)
    assert item["last_accessed_at"] == "2026-05-09T00:00:00+00:00"
    assert item["metadata"] == {"confidence": 0.9, "sourceSessionIds": ["s1"], "type": "semantic"}


def test_a_procedure_is_told_with_its_trigger_and_numbered_steps() -> None:
    row = {
        "id": "proc_1", "name": "Release", "steps": ["Tag it", "Push it"],
        "triggerCondition": "it is Friday", "expectedOutcome": "a release", "frequency": 3,
        "strength": 0.5,
    }  # fmt: skip
    [item] = items(export(proceduralMemories=[row]))
    assert item["content"] == (
        "Release\nWhen: it is Friday\n1. Tag it\n2. Push it\nExpected: a release"
    )
    assert item["metadata"] == {"frequency": 3, "type": "procedural"}


def test_a_lesson_takes_its_confidence_as_importance_and_a_deleted_one_is_left_out() -> None:
    kept = {"id": "l1", "content": "Migrate first", "confidence": 0.8, "tags": ["ops"]}
    opened = read_value(export(lessons=[kept, {**kept, "id": "l2", "deleted": True}]))
    first, second = opened
    assert first.item is not None
    assert (first.item["importance"], first.item["categories"]) == (0.8, ["ops"])
    assert second.fault is not None
    assert second.fault.code == "deleted"


def test_access_logs_become_decay_state_wherever_they_lie_in_the_file() -> None:
    log = {"memoryId": "mem_1", "count": 3, "lastAt": "2026-05-09T12:00:00Z", "recent": [1]}
    for body in (
        export(memories=[MEMORY], accessLogs=[log]),
        {"accessLogs": [log], **export(memories=[MEMORY])},
    ):
        opened = read_value(body)
        [item] = [f.item or {} for f in opened]
        assert item["access_count"] == 3
        assert item["last_accessed_at"] == "2026-05-09T12:00:00+00:00"
        assert opened.warnings == []
        memory = decode_item(item, imported=True)
        assert (memory.access_count, memory.last_accessed_at is None) == (3, False)


def test_a_log_that_cannot_be_read_costs_only_itself() -> None:
    logs = [{"memoryId": None}, 7, {"memoryId": "mem_1", "count": "x"}]
    opened = read_value(export(memories=[MEMORY], accessLogs=logs))
    assert "access_count" not in (next(iter(opened)).item or {})
    assert list(opened)
    assert any("access log" in w for w in opened.warnings)


def test_what_is_not_the_latest_or_named_as_superseded_does_not_come_alive() -> None:
    rows = [
        {**MEMORY, "id": "a", "isLatest": False},
        {**MEMORY, "id": "b"},
        {**MEMORY, "id": "c", "supersedes": ["b", "c"]},
    ]
    assert [i.get("state") for i in items(export(memories=rows))] == [
        "superseded",
        "superseded",
        None,
    ]


def test_forget_after_becomes_an_expiry_and_the_agent_owns_its_memories() -> None:
    row = {**MEMORY, "forgetAfter": "2026-12-20T18:38:16.574Z", "agentId": "claude-1"}
    [item] = items(export(memories=[row]))
    assert item["expires_at"] == "2026-12-20T18:38:16.574000+00:00"
    assert decode_item(item, imported=True).namespace == "agent:claude-1"


@pytest.mark.parametrize(
    ("strength", "wanted"), [(0, 0.01), (1, 0.1), (10, 1.0), (99, 1.0), (-3, 0.01), ("x", None)]
)
def test_a_strength_of_ten_becomes_an_importance_of_one(
    strength: Any, wanted: float | None
) -> None:
    [item] = items(export(memories=[{**MEMORY, "strength": strength}]))
    assert item.get("importance") == wanted


def test_observations_sessions_and_summaries_are_read_on_request_only() -> None:
    with REAL.open("rb") as file:
        opened = read(file)
        assert len(list(opened)) == 9
    left = [w for w in opened.warnings if "left out" in w]
    assert [w.split('"')[1] for w in left] == ["sessions", "observations", "graphNodes"]
    with REAL.open("rb") as file:
        found = list(read(file, include=("observations", "sessions")))
    assert len(found) == 14
    namespaces = [decode_item(f.item, imported=True).namespace for f in found if f.item]
    assert namespaces.count("session:ses_a") == 3
    assert namespaces.count("session:ses_b") == 2


def test_a_summary_and_its_session_have_names_of_their_own() -> None:
    session = {"id": "s1", "summary": "Fixed the build", "startedAt": "2026-05-01T00:00:00Z"}
    summary = {"sessionId": "s1", "title": "Build", "narrative": "It broke.", "keyDecisions": ["x"]}
    found = items(export(sessions=[session], summaries=[summary]), include=["sessions"])
    assert [i["external_id"] for i in found] == ["session:s1", "summary:s1"]
    assert found[1]["content"] == "Build\nIt broke.\n- x"


def test_an_observation_without_a_narrative_is_told_by_its_title_and_facts() -> None:
    row = {"id": "o1", "title": "Edit", "facts": ["a", "b"], "narrative": "", "importance": 5}
    body = export(observations={"s1": [row]})
    [item] = items(body, include=["observations"])
    assert item["content"] == "Edit\na\nb"
    assert (item["session_id"], item["importance"]) == ("s1", 0.5)


def test_a_kind_that_the_format_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="observations, sessions"):
        read_value(export(), include=["dreams"])
    with pytest.raises(UsageError, match="none of these"):
        read_value([{"memory": "x"}], include=["observations"])


@pytest.mark.parametrize("version", ["0.3.0", "0.7.9", "0.9.29", "0.9.999", "0.9", "0.8.13-rc.1"])
def test_a_version_of_a_known_minor_is_read_whatever_its_patch(version: str) -> None:
    assert len(items(export(version=version, memories=[MEMORY]))) == 1


@pytest.mark.parametrize("version", ["0.10.0", "1.0.0", "0.2.1", "9.9.0", "", "x" * 99, 3, True])
def test_another_minor_version_is_refused_by_name_with_a_cure(version: Any) -> None:
    with pytest.raises(MalformedError, match=r"0\.3 to 0\.9") as caught:
        read_value(export(version=version, memories=[MEMORY]))
    assert caught.value.code == "unknown_version"
    assert ascii(str(version)[:32]) in caught.value.detail


def test_a_version_that_comes_last_in_a_large_file_is_still_judged() -> None:
    body = {**export(memories=[MEMORY] * 200), "zz": 1}
    body["version"] = body.pop("version").replace("9", "10", 1)
    text = json.dumps(body, sort_keys=True).encode()
    opened = read(io.BytesIO(text), limits=Limits(survey_bytes=1_000))
    with pytest.raises(MalformedError, match=r"0\.10\.5"):
        list(opened)


def test_sessions_that_fill_the_survey_do_not_hide_what_the_file_is() -> None:
    sessions = [{"id": f"s{n}", "project": "p"} for n in range(200)]
    text = json.dumps(export(sessions=sessions, memories=[MEMORY])).encode()
    opened = read(io.BytesIO(text), limits=Limits(survey_bytes=1_000))
    assert (opened.format, len(list(opened))) == ("agentmemory", 1)


def test_the_request_that_its_import_route_takes_is_read_like_the_export_in_it() -> None:
    body = {"exportData": export(memories=[MEMORY], version="0.9.29"), "strategy": "merge"}
    opened = read_value(body)
    assert opened.format == "agentmemory"
    assert [f.external_id for f in opened] == ["mem_1"]
    with pytest.raises(MalformedError, match=r"0\.3 to 0\.9"):
        read_value({"exportData": export(version="1.0.0", memories=[MEMORY])})


def test_an_export_without_memories_holds_nothing_and_a_page_says_it_is_incomplete() -> None:
    assert items(export()) == []
    page = export(memories=[MEMORY], pagination={"offset": 0, "total": 9, "hasMore": True})
    opened = read_value(page)
    assert len(list(opened)) == 1
    assert any("incomplete" in w for w in opened.warnings)


def test_a_bare_list_of_its_memories_is_known_by_its_marks() -> None:
    opened = read_value([MEMORY, {**MEMORY, "id": "m2", "isLatest": False}])
    assert opened.format == "agentmemory"
    assert [(f.item or {}).get("state") for f in opened] == [None, "superseded"]


def test_long_lists_of_names_are_cut_so_that_the_metadata_fits() -> None:
    row = {**MEMORY, "sourceObservationIds": [f"obs_{n}" for n in range(5_000)], "imageData": "A"}
    opened = read_value(export(memories=[row]))
    [found] = opened
    memory = decode_item(found.item, imported=True)
    assert len(memory.metadata["sourceObservationIds"]) == 100
    assert len(opened.warnings) == 2


@pytest.mark.parametrize("row", ["text", 7, None, ["x"]])
def test_a_row_that_is_no_object_is_named(row: Any) -> None:
    first, second = read_value(export(memories=[row, MEMORY]))
    assert first.fault is not None
    assert first.fault.code == "not_a_memory"
    assert second.fault is None


def test_what_is_read_on_request_may_be_named_after_the_format() -> None:
    row = {"id": "o1", "title": "Edit", "narrative": "Edited a file"}
    body = export(observations={"s1": [row]}, sessions=[{"id": "s1", "summary": "Work"}])
    assert len(items(body, format="agentmemory")) == 0
    assert len(items(body, format="agentmemory+observations")) == 1
    assert len(items(body, format="agentmemory+observations+sessions")) == 2
    with pytest.raises(UsageError, match="observations, sessions"):
        read_value(body, format="agentmemory+dreams")
