"""No format takes another's files, and none breaks on damage: every fixture, every format."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.domain.memory import decode_item
from engram.errors import EngramError
from engram.importers.formats import FORMATS
from engram.importers.reading import read
from engram.importers.report import Report
from tests.unit import test_importers_langgraph as langgraph
from tests.unit import test_importers_letta as letta
from tests.unit import test_importers_others as others
from tests.unit import test_importers_zep as zep
from tests.unit.importing import lines, opened
from tests.unit.test_importers_fixtures import EXPORTS
from tests.unit.test_importers_fixtures import FORMATS as EXPORT_FORMATS

ROW = {"content": "Likes tea", "user_id": "alice", "created_at": "2026-01-01T00:00:00+00:00"}
MEM0 = {"id": "m1", "memory": "Likes tea", "user_id": "alice", "metadata": {"source": "crm"}}
# formats.md 1f and 1k, as they stand there.
OPENMEMORY = {
    "id": "u", "content": "Likes tea", "metadata": {}, "created_at": "2026-01-01T00:00:00+00:00",
    "updated_at": None, "state": "active", "app": "openmemory", "categories": ["pref"],
}  # fmt: skip
AGENTMEMORY = {
    "version": "0.9.5", "exportedAt": "2026-05-10T00:00:00Z", "sessions": [], "observations": {},
    "summaries": [],
    "memories": [{
        "id": "mem_1", "createdAt": "2026-05-01T00:00:00Z", "updatedAt": "2026-05-01T00:00:00Z",
        "type": "preference", "title": "Likes tea", "content": "Likes tea", "concepts": [],
        "files": [], "sessionIds": [], "strength": 7, "version": 1, "isLatest": True,
    }],
}  # fmt: skip
SHAPES: tuple[tuple[str, Any], ...] = (
    ("native", {"memories": [{"content": "Likes tea", "namespace": "user:alice"}]}),
    ("native", ["Likes tea"]),
    ("mem0", [MEM0]),
    ("mem0", {"count": 1, "next": None, "previous": None, "results": [MEM0]}),
    ("mem0", {"results": [{**MEM0, "hash": "9f", "updated_at": None}]}),
    ("mem0", [{"id": "u", "payload": {"data": "Likes tea", "user_id": "alice", "hash": "9f"}}]),
    ("mem0", {"alice": [{"text": "Likes tea", "metadata": {}}], "bob": []}),
    ("postgres", [{"id": 1, **ROW}]),
    ("postgres", b"id,content,user_id\n1,Likes tea,alice\n"),
    ("openmemory", [OPENMEMORY]),
    ("agentmemory", AGENTMEMORY),
    ("zep", {"facts": ["Likes tea"]}),
    ("zep", {"facts": [zep.CE_FACT]}),
    ("zep", {"facts": [zep.CLOUD_FACT]}),
    ("zep", [zep.CLOUD_FACT]),
    ("zep", {"sessions": [zep.SESSION], "total_count": 1, "response_count": 1}),
    ("zep", {"facts": ["a"], "messages": [], "relevant_facts": [zep.CE_FACT], "metadata": {}}),
    ("zep-edges", [zep.EDGE]),
    ("zep-edges", {"edges": [zep.EDGE], "episodes": [], "nodes": [{"uuid": "n", "name": "A"}]}),
    ("zep-edges", {"items": [zep.EDGE], "next_cursor": "c", "total_size": 9}),
    ("letta", [letta.PASSAGE]),
    ("letta", letta.agent_file([letta.AGENT], [letta.BLOCK])),
    ("letta", letta.OLD_FILE),
    ("langgraph", [langgraph.item(langgraph.MANAGED)]),
    ("langgraph", [langgraph.table_row(langgraph.MANAGED)]),
    ("supermemory", others.REQUEST),
    ("supermemory", [others.STATIC]),
    ("memobase", others.ANSWER),
    ("memobase", [others.PROFILE]),
    ("cognee", [others.MEMORY]),
    ("cognee", others.tarred(others.ARCHIVE)),
)
AS_BYTES = [d if isinstance(d, bytes) else json.dumps(d).encode() for _, d in SHAPES]
ON_LINES = [lines(d, d) for name, d in SHAPES if not isinstance(d, bytes | list)]
NAMES = [None, *(f.name for f in FORMATS)]


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_each_shape_is_taken_for_what_it_is(name: str, shape: Any) -> None:
    reading = opened(shape)
    assert reading.format == name
    made = [decode_item(found.item, imported=True) for found in reading if found.item]
    assert made
    assert {memory.source for memory in made} == {name.removesuffix("-edges")}


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_a_shape_fits_its_own_format_better_than_any_other(name: str, shape: Any) -> None:
    if isinstance(shape, list):
        # Rows say what they are by themselves, however they are filed.
        assert opened(lines(*shape, *shape)).format == name
        assert opened(lines(*shape), filename="x.jsonl").format == name


@pytest.mark.parametrize("folder", sorted(EXPORT_FORMATS))
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_named_format_reads_any_export_without_breaking(folder: str, name: str) -> None:
    file: Path = next(p for p in (EXPORTS / folder).iterdir() if p.name != "expected.json")
    assert _sums(file.read_bytes(), format=name, filename=file.name)


@pytest.mark.parametrize("data", AS_BYTES)
@pytest.mark.parametrize("name", NAMES)
def test_every_element_of_every_shape_is_accounted_for_in_every_format(
    data: bytes, name: str | None
) -> None:
    assert _sums(data, format=name)


@given(st.binary(max_size=300), st.sampled_from(NAMES))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_our_own_errors_in_any_format(
    data: bytes, name: str | None
) -> None:
    _sums(data, format=name)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_no_damage_to_any_shape_raises_anything_but_our_own_errors(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(AS_BYTES + ON_LINES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        junk = data.draw(
            st.sampled_from([b"", b'"', b"[", b"{", b"}", b"\n", b"\0", b"\xff", b","])
        )
        whole[at : at + data.draw(st.integers(0, 3))] = junk
    _sums(bytes(whole), format=data.draw(st.sampled_from(NAMES)))


# Parsed anew each time: what is put in may be changed by the next swap.
odd = st.sampled_from(
    [
        *("null", "true", "0", "-1.5", '""', '" "', '"x"', "[]", "{}", '["x"]', "[[]]"),
        *('{"x": []}', '[{"x": null}]', '"[1]"', '"{}"'),
    ]
).map(json.loads)


@given(st.data())
@settings(max_examples=800, deadline=None)
def test_no_value_in_the_place_of_another_raises_anything_but_our_own_errors(
    data: st.DataObject,
) -> None:
    _, shape = data.draw(st.sampled_from([s for s in SHAPES if not isinstance(s[1], bytes)]))
    shape = json.loads(json.dumps(shape))
    for _ in range(data.draw(st.integers(1, 3))):
        _swap(shape, data)
    name = data.draw(st.sampled_from(NAMES))
    for text in (json.dumps(shape).encode(), lines(shape, shape)):
        _sums(text, format=name)


def _swap(shape: Any, data: st.DataObject) -> None:
    """Put an odd value somewhere inside, or an odd key with one."""
    while isinstance(shape, dict | list) and shape:
        keys = sorted(shape) if isinstance(shape, dict) else list(range(len(shape)))
        key = data.draw(st.sampled_from(keys))
        inner = shape[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            shape = inner
            continue
        shape[key] = data.draw(odd)
        return


def _sums(data: bytes, **options: Any) -> bool:
    """Read it all and add it up; False when the file as a whole was refused."""
    try:
        reading = read(io.BytesIO(data), **options)
        report = Report(reading.format)
        for index, found in enumerate(reading):
            assert found.index == index
            assert (found.item is None) != (found.fault is None)
            if found.fault is not None:
                report.fail(found, found.fault)
                continue
            item = found.item or {}
            assert found.external_id
            assert item["content"].strip()
            superseded = item.get("state") == "superseded"
            report.add("superseded" if superseded else "imported", "any")
    except EngramError:
        return False
    counts = report.as_json()
    names = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
    assert counts["received"] == sum(counts[name] for name in names)
    return True
