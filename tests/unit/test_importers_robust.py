"""Whatever the bytes: only our own errors, every element once, and memory that stays flat."""

import gzip
import io
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.errors import EngramError
from engram.importers import source
from engram.importers.copytext import undo_copy, undo_copy_stream
from engram.importers.cursor import Cursor
from engram.importers.formats import FORMATS
from engram.importers.reading import read, read_value
from engram.importers.rows import to_id
from engram.importers.times import to_iso

ROW = b'{"id":"m1","memory":"says \\"hi\\"","user_id":"a","metadata":{"k":[1,{}]}}'
WHOLE = (
    b"[" + ROW + b"," + ROW + b"]",
    ROW + b"\n" + ROW + b"\n",
    b'{"next":null,"results":[' + ROW + b'],"relations":[]}',
    b'{"alice":[' + ROW + b'],"bob":{"results":[' + ROW + b"]}}",
    b'[{"content":"a \\\\"b\\\\" \\\\n c"}, \\n {"content":"d"}]\n',
    b'id,content,user_id\n1,"a ""b""\nc",alice\n2,x,\n',
    '[{"memory":"x"}]'.encode("utf-16"),
    gzip.compress(b"[" + ROW + b"]"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
OWNER_NAMES = ["user_id", "run_id", "namespace", "owner"]
TEXT_NAMES = ["memory", "content", "text", "data", "payload", "results", "memories"]
OTHER_NAMES = ["id", "metadata", "created_at", "expiration_date", "replaced_by", "categories"]
MORE_NAMES = ["tags", "importance", "state", "source"]
NAMES = OWNER_NAMES + TEXT_NAMES + OTHER_NAMES + MORE_NAMES
odd_rows = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=8)


def exhaust(data: bytes, **options: Any) -> int:
    count = 0
    try:
        for found in read(io.BytesIO(data), **options):
            assert found.index == count
            assert (found.item is None) != (found.fault is None)
            assert found.item is None or (found.external_id and found.item["content"].strip())
            count += 1
    except EngramError:
        pass
    return count


@given(st.binary(max_size=400), st.sampled_from([None, "x.jsonl", "x.csv"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_our_own_errors(data: bytes, filename: str | None) -> None:
    exhaust(data, filename=filename)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_no_damage_to_an_export_raises_anything_but_our_own_errors(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        junk = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"[", b"}", b"\n", b"\0", b"\xff", b","])
        )
        whole[at : at + data.draw(st.integers(0, 3))] = junk
    exhaust(bytes(whole), format=data.draw(st.sampled_from([None, *(f.name for f in FORMATS)])))


@given(st.lists(odd_rows | json_values, max_size=5), st.sampled_from(FORMATS))
@settings(max_examples=300, deadline=None)
def test_every_element_of_an_array_is_found_exactly_once(rows: list[Any], chosen: Any) -> None:
    wrappers = ("results", "memories", "records", "items")
    rows = [r for r in rows if not (isinstance(r, dict) and any(w in r for w in wrappers))]
    try:
        found = list(read_value(rows, chosen.name))
    except EngramError:
        # A NaN or a lone surrogate inside an element is that element's fault, never the file's.
        pytest.fail("an array of anything reads")
    assert len(found) == len(rows)


@given(json_values, st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_the_cursor_cuts_a_value_where_json_ends_it_however_it_is_chunked(
    value: Any, size: int
) -> None:
    text = json.dumps([value, 1, {"a": value}], indent=1).encode()
    cursor = Cursor((text[i : i + size] for i in range(0, len(text), size)), 1 << 20)
    found = [json.loads(cursor.value() or b"") for _ in cursor.elements()]
    assert repr(found) == repr(json.loads(text))
    assert cursor.peek() == b""
    assert cursor.line == text.count(b"\n") + 1


@given(st.binary(max_size=80), st.integers(1, 5))
def test_copy_escapes_are_undone_across_any_chunk_border(data: bytes, size: int) -> None:
    copied = data.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\t", b"\\t")
    chunks = (copied[i : i + size] for i in range(0, len(copied), size))
    assert b"".join(undo_copy_stream(chunks)) == undo_copy(copied) == data


@given(st.integers() | st.floats() | st.text() | st.booleans() | st.none())
def test_times_and_ids_never_raise(value: Any) -> None:
    iso, name = to_iso(value), to_id(value)
    assert iso is None or iso.endswith("+00:00")
    assert name is None or name.strip() == name


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
def test_a_file_reads_the_same_in_chunks_of_any_size(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts(data: bytes) -> list[str]:
        return [(f.item or {})["content"] for f in read(io.BytesIO(data))]

    whole = [texts(data) for data in WHOLE]
    monkeypatch.setattr(source, "CHUNK_BYTES", size)
    assert [texts(data) for data in WHOLE] == whole
    assert [len(w) for w in whole] == [2, 2, 1, 2, 2, 2, 1, 1]


MEASURE = """
import resource, sys, tempfile
from engram.importers.reading import read
before, row, between, after = (a.encode() for a in sys.argv[1:5])
count = int(sys.argv[5])
with tempfile.TemporaryFile() as file:
    file.write(before + row)
    for n in range(count - 1):
        file.write(between + row.replace(b"m1", b"m%d" % n))
    file.write(after)
    file.seek(0)
    assert sum(found.item is not None for found in read(file)) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [("[", ",", "]"), ('{"results":[', ",", "]}"), ('{"m1":[', '],"m1":[', "]}"), ("", "\n", "")],
)
def test_memory_stays_flat_as_the_file_grows(before: str, between: str, after: str) -> None:
    def peak_kb(count: int) -> int:
        command = [sys.executable, "-c", MEASURE, before, ROW.decode(), between, after, str(count)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_kb(60_000) - peak_kb(3_000) < 2_000
