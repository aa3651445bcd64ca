"""How elements lie in a file, damage to it, and how much of it is read."""

import codecs
import gzip
import io
import json
import re
from collections.abc import Iterator

import pytest

from engram.errors import EngramError, MalformedError, TooLargeError
from engram.importers.reading import read
from engram.importers.source import Limits

OK = b'{"memory":"x","user_id":"a"}'


def outcomes(data: bytes, limits: Limits | None = None, filename: str | None = None) -> list[str]:
    opened = read(io.BytesIO(data), limits=limits, filename=filename)
    return [f.fault.code if f.fault else str((f.item or {})["content"]) for f in opened]


def until_it_breaks(data: bytes) -> tuple[list[str], EngramError]:
    seen: list[str] = []
    try:
        # extend() keeps what came before the error.
        seen.extend(f.fault.code if f.fault else "ok" for f in read(io.BytesIO(data)))
    except EngramError as error:
        return seen, error
    pytest.fail("it read to the end")


TEXT = "[" + ", ".join(json.dumps({"memory": f"é{n}"}, ensure_ascii=False) for n in range(3)) + "]"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-32"),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT.encode()[:20], mtime=0)
        + gzip.compress(TEXT.encode()[20:], mtime=0)
        + b"\0\0",
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
    ],
)
def test_one_text_reads_the_same_in_every_encoding(data: bytes) -> None:
    assert outcomes(data) == ["é0", "é1", "é2"]


def test_lines_may_be_blank_end_in_crlf_and_hold_bare_strings() -> None:
    data = b'\xef\xbb\xbf\r\n{"memory":"x"}\r\n   \r\n"bare"\r\n\r\n"  "'
    assert outcomes(data) == ["x", "bare", "empty"]


def test_a_broken_line_is_one_fault_with_its_number() -> None:
    found = list(read(io.BytesIO(OK + b'\n{"memory":\n\n' + OK)))
    assert [(f.index, f.line, f.fault and f.fault.code) for f in found] == [
        (0, 1, None),
        (1, 2, "malformed_json"),
        (2, 4, None),
    ]


@pytest.mark.parametrize("first", [b'{"memory":"cut', b"garbage"])
def test_a_broken_first_line_does_not_hide_that_the_file_is_lines(first: bytes) -> None:
    assert outcomes(first + b"\n" + OK + b"\n" + OK) == ["malformed_json", "x", "x"]


def test_a_file_named_as_lines_is_lines_even_when_its_first_line_is_very_long() -> None:
    data = b'{"memory":"' + b"a" * 100_000 + b'"}\n{broken\n' + OK
    assert outcomes(data, filename="x.jsonl.gz")[1:] == ["malformed_json", "x"]


def test_a_gzip_file_of_many_members_is_no_bomb() -> None:
    member = gzip.compress(b" " * 65_536, mtime=0)
    data = gzip.compress(b"[", mtime=0) + member * 400 + gzip.compress(OK + b"]", mtime=0)
    assert outcomes(data, Limits(max_ratio=1_200)) == ["x"]


def test_objects_printed_over_many_lines_one_after_another_are_read() -> None:
    assert outcomes(b'{\n "memory": "x"\n}\n{\n "memory": "y"\n}\n') == ["x", "y"]


@pytest.mark.parametrize(
    ("element", "code"),
    [
        (b'{"memory":"x\\ud800y"}', "malformed_json"),
        (b'{"memory":"x","n":1e130000}', "malformed_json"),
        (b'{"memory":"x","n":' + b"1" * 100_000 + b"}", "malformed_json"),
        (b'{"memory":"x","n":123456789012345678901}', "number_too_large"),
        (b'{"memory":"x\\u0000"}', "nul_character"),
        (b'{"memory":"\xff"}', "malformed_json"),
        (b'{"memory":oops}', "malformed_json"),
        (b"[" * 100_000 + b"]" * 100_000, "malformed_json"),
        (b"[" * 1_000 + b"1" * 25 + b"]" * 1_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "malformed_json"),
        (b"42", "not_a_memory"),
        (b"null", "not_a_memory"),
        (b'["a"]', "not_a_memory"),
        (b"{}", "empty"),
    ],
)
@pytest.mark.parametrize("between", [b",", b"\n"])
def test_a_hostile_element_costs_only_itself(element: bytes, code: str, between: bytes) -> None:
    data = between.join([OK, element, OK])
    data = b"[" + data + b"]" if between == b"," else data
    assert outcomes(data) == ["x", code, "x"]


@pytest.mark.parametrize(
    ("data", "place", "before"),
    [
        (b"[" + OK + b",\n" + b'{"memory":"y', "line 2, column 13", 1),
        (b'{"results":[' + OK + b"," + OK, "line 1, column 70", 2),
        (b"[" + OK + b"] xyz", "line 1, column 32", 1),
        (b"[" + OK + b"\n " + OK + b"]", "line 2, column 2", 1),
        (b"[" + OK + b",]", "line 1, column 31", 1),
        (b"[" * 100_000, "line 1, column 100001", 0),
    ],
)
def test_a_broken_document_gives_what_came_before_and_names_the_place(
    data: bytes, place: str, before: int
) -> None:
    seen, error = until_it_breaks(data)
    assert isinstance(error, MalformedError)
    assert len(seen) == before
    assert place in str(error)


def test_a_cut_gzip_file_gives_what_came_before() -> None:
    data = gzip.compress(b"[" + b",".join([OK] * 50_000) + b"]")
    seen, error = until_it_breaks(data[:-20])
    assert error.code == "bad_gzip"
    assert seen
    assert set(seen) == {"ok"}


@pytest.mark.parametrize("data", [b"", b" \n", b"null\n", b"\\N\n", gzip.compress(b"", mtime=0)])
def test_a_file_of_nothing_holds_nothing_and_says_so(data: bytes) -> None:
    opened = read(io.BytesIO(data))
    assert list(opened) == []
    assert opened.warnings == ["The file holds nothing"]


@pytest.mark.parametrize("data", [b"[]", b'{"results":[]}', b'{"memories":[]}'])
def test_an_empty_list_holds_nothing(data: bytes) -> None:
    assert outcomes(data) == []


@pytest.mark.parametrize("data", [b"hello world", b"SQLite format 3", b"id,name\n1,x\n"])
def test_what_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="Accepted are"):
        read(io.BytesIO(data))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    data = gzip.compress(b"[" + b" " * 60_000_000 + b"]", mtime=0)
    with pytest.raises(TooLargeError, match="250 times"):
        outcomes(data)


def test_a_small_file_may_shrink_much_and_a_large_one_is_bounded_in_bytes() -> None:
    data = b"[" + b",".join([OK] * 1_000) + b"]"
    assert len(outcomes(gzip.compress(data, mtime=0), Limits(max_ratio=2))) == 1_000
    with pytest.raises(TooLargeError, match="10,000 bytes"):
        outcomes(data, Limits(max_bytes=10_000))


@pytest.mark.parametrize("body", [b"a" * 5_000_000, b"\\n" * 3_000_000, b'\\"' * 3_000_000])
@pytest.mark.parametrize("between", [b",", b"\n"])
def test_an_over_long_element_is_passed_over(body: bytes, between: bytes) -> None:
    data = between.join([OK, b'{"memory":"' + body + b'"}', OK])
    data = b"[" + data + b"]" if between == b"," else data
    assert outcomes(data) == ["x", "too_large", "x"]


class OneWay(io.RawIOBase):
    """A stream that cannot seek, as a pipe or a request body."""

    def __init__(self, data: bytes) -> None:
        self._chunks: Iterator[bytes] = (data[i : i + 7] for i in range(0, len(data), 7))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override] # any buffer will do
        chunk = next(self._chunks, b"")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def test_a_stream_that_cannot_seek_is_read_and_bounded_too() -> None:
    data = b'{"alice":[' + OK + b"," + OK + b"]}"
    assert len(list(read(OneWay(data)))) == 2  # type: ignore[arg-type] # a raw stream has read()
    with pytest.raises(TooLargeError):
        read(OneWay(data), limits=Limits(max_bytes=30))  # type: ignore[arg-type] # same


def test_copy_text_is_unescaped_even_before_the_first_place_that_proves_it() -> None:
    rows = [{"content": "a\nb \\ c"}, {"content": 'say "no", then'}, {"content": "\\N"}]
    plain = json.dumps(rows).encode()
    copied = plain.replace(b"\\", b"\\\\")
    between_rows = copied.replace(b"}, {", b"}, \\n {")
    lines = b"\n".join(json.dumps(r).encode().replace(b"\\", b"\\\\") for r in rows)
    wanted = [r["content"] for r in rows]
    for data in (plain, copied, between_rows, lines):
        assert outcomes(data) == wanted


def test_plain_json_with_windows_paths_is_not_taken_for_copy_text() -> None:
    rows = [{"content": "C:\\"}, {"content": "C:\\new\\table"}, {"content": 'x\\"y'}]
    assert outcomes(json.dumps(rows).encode()) == [r["content"] for r in rows]


def test_csv_keeps_line_breaks_in_quotes_and_names_bad_rows() -> None:
    data = b'id,content,owner\r\n1,"a\r\nb",al\r\n2,x\r\n\r\n3,"c ""q""",\r\n4,\xff,al\r\n'
    found = list(read(io.BytesIO(data)))
    assert [f.item["content"] if f.item else f.fault and f.fault.code for f in found] == [
        "a\r\nb",
        "malformed_row",
        'c "q"',
        "not_utf8",
    ]
    assert [f.line for f in found] == [2, 4, 6, 7]


@pytest.mark.parametrize("separator", [b",", b";", b"\t", b"|"])
def test_csv_may_be_separated_by_other_signs(separator: bytes) -> None:
    rows = [[b'"id"', b'"Content"'], [b"1", b"x"]]
    assert outcomes(b"\n".join(separator.join(r) for r in rows)) == ["x"]


def test_csv_with_an_open_quote_ends_there_and_names_the_line() -> None:
    seen, error = until_it_breaks(b'id,content\n1,a\n2,"open\n3,c\n')
    assert seen == ["ok"]
    assert re.search("line 3", str(error))


def test_csv_never_holds_more_than_one_row() -> None:
    endless = b"id,content\n" + b'1,"a' + b'\n","' * 100_000
    with pytest.raises(MalformedError, match="longer than an import reads"):
        outcomes(endless, Limits(max_item_bytes=1_000))
