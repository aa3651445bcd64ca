"""Real exports, written by the named software itself, give exactly what they hold."""

import hashlib
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engram.domain.memory import NewMemory, decode_item
from engram.errors import InvalidError
from engram.importers.reading import read
from engram.importers.record import Found

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
FOLDERS = sorted(p.name for p in EXPORTS.iterdir() if p.is_dir())
FORMATS = {
    "agentmemory-0.9.29-export": "agentmemory",
    "edge-gzip-json": "mem0",
    "edge-jsonl-bom-blank-crlf": "mem0",
    "edge-mixed-valid-broken-jsonl": "mem0",
    "langgraph-inmemory-items": "langgraph",
    "mem0-oss-0.1.118-one-user": "mem0",
    "mem0-oss-2.2.1-one-user": "mem0",
    "mem0-pgvector-copy-json_agg": "mem0",
    "raw-postgres-copy-csv": "postgres",
    "raw-postgres-copy-json_agg-seed0": "postgres",
    "raw-postgres-row_to_json-lines": "postgres",
    "seed2-per-user-dict-results": "mem0",
    "zep-cloud-2.22-edges-array": "zep-edges",
    "zep-cloud-4.0-edge-page": "zep-edges",
    "zep-jq-facts-stream": "native",
}

# A value without any text is kept as JSON, which expected.json allows as an alternative.
KEPT_AS_JSON = {"langgraph-inmemory-items": '{"name": "Bob", "age": 41}'}


def _expected(folder: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((EXPORTS / folder / "expected.json").read_text())
    return expected


def _read(folder: str) -> tuple[str, list[str], list[Found]]:
    file = next(p for p in (EXPORTS / folder).iterdir() if p.name != "expected.json")
    with file.open("rb") as stream:
        opened = read(stream, filename=file.name)
        found = list(opened)
    return opened.format, opened.warnings, found


def _memories(found: list[Found]) -> tuple[list[NewMemory], list[Found]]:
    good, bad = [], []
    for one in found:
        try:
            assert one.item is not None or one.fault is not None
            good.append(decode_item(one.item, imported=True)) if one.item else bad.append(one)
        except InvalidError:
            bad.append(one)
    return good, bad


def test_every_kept_export_has_a_known_format() -> None:
    assert set(FOLDERS) == set(FORMATS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_real_export_gives_the_counts_and_texts_it_holds(folder: str) -> None:
    expected = _expected(folder)
    name, warnings, found = _read(folder)
    good, bad = _memories(found)
    live = [m for m in good if m.state == "active"]
    as_json = [m for m in live if m.content == KEPT_AS_JSON.get(folder)]
    told = [m for m in live if m not in as_json]
    lines = sorted(json.dumps([m.namespace, m.content]) for m in told)

    assert name == FORMATS[folder]
    assert len(found) == expected["received"]
    assert [f.index for f in found] == list(range(len(found)))
    assert len(told) == expected["importable"]
    assert len(good) - len(live) == expected["superseded"]
    assert len(bad) + len(as_json) == expected["empty_or_invalid"]
    assert len(as_json) == (folder in KEPT_AS_JSON)
    assert Counter(m.namespace for m in told) == expected["by_namespace"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == expected["digest_importable"]
    assert any(expected.get("must_warn", "") in w for w in [*warnings, ""])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_real_export_keeps_times_metadata_and_every_owner_id(folder: str) -> None:
    expected = _expected(folder)
    good, _ = _memories(_read(folder)[2])
    by_key = {(m.namespace, m.content): m for m in good}
    for sample in expected["sample"]:
        memory = by_key[sample["namespace"], sample["content"]]
        wanted = sample["created_at"] and datetime.fromisoformat(sample["created_at"])
        assert memory.created_at == (wanted or None)
        assert set(sample["metadata_keys"]) <= set(memory.metadata)
        assert not {"hash", "vector", "embedding", "text_lemmatized"} & set(memory.metadata)
    told = [m for m in good if m.content != KEPT_AS_JSON.get(folder)]
    kept = {
        "user_id": sum(m.user_id is not None for m in told),
        "agent_id": sum(m.agent_id is not None for m in told),
        "run_id": sum(m.session_id is not None for m in told),
    }
    assert {name: kept[name] for name in expected["ids_to_keep"]} == expected["ids_to_keep"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_read_twice_gives_the_same_ids_and_no_id_twice(folder: str) -> None:
    first = [f.external_id for f in _read(folder)[2] if f.item]
    second = [f.external_id for f in _read(folder)[2] if f.item]
    assert first == second
    assert len(set(first)) == len(first)
    assert all(first)


def test_every_bad_line_is_named_with_its_line_and_reason() -> None:
    folder = "edge-mixed-valid-broken-jsonl"
    bad = [f for f in _read(folder)[2] if f.fault]
    assert [f.line for f in bad] == _expected(folder)["bad_lines"]
    assert [f.fault.code for f in bad if f.fault] == [
        *["malformed_json"] * 2,
        *["not_a_memory"] * 3,
        *["empty"] * 3,
        "not_text",
        "empty",
        "malformed_json",
    ]
