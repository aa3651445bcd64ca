"""OpenMemory backups, and archives in general: read as streams, refused when they are unsafe."""

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.domain.memory import decode_item
from engram.errors import EngramError, MalformedError, TooLargeError
from engram.importers.members import Member
from engram.importers.reading import read, read_members
from engram.importers.source import Limits

LINES: list[dict[str, Any]] = [
    {
        "id": f"0000000{n}", "content": f"Likes {drink}", "metadata": {"k": n},
        "created_at": "2026-01-01T00:00:00+00:00", "updated_at": None, "state": state,
        "app": "cursor", "categories": ["pref"],
    }
    for n, (drink, state) in enumerate(
        [("tea", "active"), ("milk", "paused"), ("wine", "archived"), ("beer", "deleted")]
    )
]  # fmt: skip
TABLES: dict[str, Any] = {
    "user": {"id": "uuid-of-alice", "user_id": "alice", "name": None, "email": None},
    "apps": [{"id": "uuid-of-cursor", "owner_id": "uuid-of-alice", "name": "cursor"}],
    "categories": [{"id": "uuid-of-pref", "name": "pref", "description": None}],
    "memories": [
        {
            "id": line["id"], "user_id": "uuid-of-alice", "app_id": "uuid-of-cursor",
            "content": line["content"], "metadata": line["metadata"], "state": line["state"],
            "created_at": line["created_at"], "updated_at": None, "archived_at": None,
            "deleted_at": None, "category_ids": ["uuid-of-pref"],
        }
        for line in LINES
    ],
    "memory_categories": [{"memory_id": "00000000", "category_id": "uuid-of-pref"}],
    "status_history": [],
    "access_controls": [],
    "export_meta": {"app_id_filter": None, "version": "1"},
}  # fmt: skip


def gzipped_lines(lines: list[dict[str, Any]] = LINES) -> bytes:
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0)


def tables(**changes: Any) -> bytes:
    return json.dumps({**TABLES, **changes}, indent=2).encode()


def zipped(*files: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(*files: tuple[str, bytes], mode: str = "w", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


BACKUP = zipped(("memories.json", tables()), ("memories.jsonl.gz", gzipped_lines()))
OK = b'[{"memory":"x","user_id":"a"}]'


def texts(data: bytes, **options: Any) -> list[str]:
    return [(f.item or {"content": "-"})["content"] for f in read(io.BytesIO(data), **options)]


def states(data: bytes) -> list[tuple[str, str | None]]:
    found = list(read(io.BytesIO(data)))
    assert [f.fault.code for f in found if f.fault] == ["deleted"]
    memories = [decode_item(f.item, imported=True) for f in found if f.item]
    assert {m.namespace for m in memories} == {"user:alice"}
    assert all((m.app_id, m.categories) == ("cursor", ["pref"]) for m in memories)
    return [(m.state, m.metadata.get("state")) for m in memories]


def test_a_backup_gives_each_memory_once_with_its_user_app_categories_and_state() -> None:
    wanted = [("active", None), ("archived", "paused"), ("archived", "archived")]
    opened = read(io.BytesIO(BACKUP), filename="memories_export_alice.zip")
    assert opened.format == "openmemory"
    assert len(list(opened)) == 4
    assert opened.warnings == []
    assert states(BACKUP) == wanted


def test_a_backup_in_a_folder_of_the_zip_is_found_as_its_own_import_finds_it() -> None:
    data = zipped(("b/memories.json", tables()), ("b/memories.jsonl.gz", gzipped_lines()))
    assert len(states(data)) == 3


def test_the_tables_alone_name_apps_and_categories_by_their_rows() -> None:
    wanted = [("active", None), ("archived", "paused"), ("archived", "archived")]
    assert states(zipped(("memories.json", tables()))) == wanted
    assert states(tables()) == wanted


def test_the_lines_alone_have_no_user_and_keep_their_app() -> None:
    opened = read(io.BytesIO(gzipped_lines()), filename="memories.jsonl.gz")
    assert opened.format == "openmemory"
    first = next(iter(opened))
    assert decode_item(first.item, imported=True).namespace == "app:cursor"


def test_an_app_or_category_that_no_row_names_keeps_its_id() -> None:
    [found, *_] = read(io.BytesIO(tables(apps=[{"id": 1}, 7], categories=[])))
    memory = decode_item(found.item, imported=True)
    assert memory.app_id == "uuid-of-cursor"
    assert memory.metadata["category_ids"] == ["uuid-of-pref"]


def test_an_unknown_state_is_named() -> None:
    lines = [{**LINES[0], "state": state} for state in ("active", "asleep", 7, ["x"])]
    data = zipped(("memories.json", tables()), ("memories.jsonl.gz", gzipped_lines(lines)))
    found = list(read(io.BytesIO(data)))
    assert [f.fault and f.fault.code for f in found] == [None, *["unknown_state"] * 3]


def test_a_backup_read_twice_gives_the_same_ids() -> None:
    ids = [[f.external_id for f in read(io.BytesIO(BACKUP))] for _ in range(2)]
    assert ids[0] == ids[1]
    opened = read(io.BytesIO(BACKUP))
    assert [f.external_id for f in opened] == [f.external_id for f in opened] == ids[0]


# Archives of other exports ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        zipped(("export.json", OK)),
        zipped(("a/b/export.json", OK), compression=zipfile.ZIP_STORED),
        zipped(("export.json.gz", gzip.compress(OK, mtime=0))),
        zipped(("__MACOSX/._export.json", b"\0\1"), ("export.json", OK), (".DS_Store", b"x")),
        tarred(("export.json", OK)),
        tarred(("./export.json", OK), mode="w:gz"),
        tarred(("export.json", OK), format=tarfile.GNU_FORMAT),
        tarred(("f/" * 80 + "export.json", OK), format=tarfile.GNU_FORMAT),
        tarred(("f/" * 80 + "ex\u00e9port.json", OK), format=tarfile.PAX_FORMAT),
    ],
)
def test_an_export_in_an_archive_is_read_as_if_it_lay_alone(data: bytes) -> None:
    assert texts(data) == ["x"]


def test_all_exports_of_an_archive_are_read_in_the_order_of_their_names() -> None:
    data = zipped(
        ("b.jsonl", b'{"memory":"b1"}\n{"memory":"b2"}\n'),
        ("a.json", b'[{"content":"a","namespace":"user:u"}]'),
        ("read me.txt", b"hello"),
    )
    opened = read(io.BytesIO(data))
    assert [(f.item or {})["content"] for f in opened] == ["a", "b1", "b2"]
    assert [f.index for f in opened] == [0, 1, 2]
    assert opened.format == "mixed"
    assert opened.warnings == ["1 files of the archive are left out"]
    assert texts(data, format="mem0") == ["a", "b1", "b2"]


def test_the_files_of_a_folder_are_read_like_those_of_an_archive() -> None:
    files = {"memories.json": tables(), "memories.jsonl.gz": gzipped_lines()}
    members = [
        Member(name, len(data), lambda data=data: io.BytesIO(data), Limits())
        for name, data in files.items()
    ]
    assert read_members(members).format == "openmemory"
    assert len(list(read_members(members))) == 4


# What is refused -------------------------------------------------------------------------------


def refused(data: bytes, limits: Limits | None = None) -> EngramError:
    with pytest.raises(EngramError) as caught:
        list(read(io.BytesIO(data), limits=limits))
    return caught.value


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "C:evil.json", "a\\evil.json"]
)
def test_a_name_that_leads_out_of_the_archive_is_refused(name: str) -> None:
    for data in (zipped((name, OK), ("ok.json", OK)), tarred((name, OK), ("ok.json", OK))):
        error = refused(data)
        assert error.code == "unsafe_archive"
        assert "evil.json" in error.detail


def test_a_name_that_a_nul_cuts_short_is_refused() -> None:
    data = zipped(("okXjson", OK)).replace(b"okXjson", b"ok\0json")
    assert refused(data).code in ("unsafe_archive", "bad_archive")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused() -> None:
    for data in (zipped(("a.json", OK), ("a.json", OK)), tarred(("a.json", OK), ("./a.json", OK))):
        assert (refused(data).code, "twice" in refused(data).detail) == ("unsafe_archive", True)


@pytest.mark.parametrize("inner", [zipped(("a.json", OK)), tarred(("a.json", OK), mode="w:gz")])
@pytest.mark.parametrize("name", ["inner.zip", "inner.tar.gz", "hidden.json"])
def test_an_archive_in_an_archive_is_refused(name: str, inner: bytes) -> None:
    assert refused(zipped((name, inner))).code == "nested_archive"
    assert refused(tarred((name, inner))).code == "nested_archive"


def test_a_link_is_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert refused(buffer.getvalue()).code == "unsafe_archive"
    zip_buffer = io.BytesIO()
    with zipfile.ZipFile(zip_buffer, "w") as zip_archive:
        link = zipfile.ZipInfo("a.json")
        link.external_attr = 0o120777 << 16
        zip_archive.writestr(link, "/etc/passwd")
    assert refused(zip_buffer.getvalue()).code == "unsafe_archive"


def test_an_encrypted_or_oddly_compressed_entry_is_refused() -> None:
    assert refused(zipped(("a.json", OK), compression=zipfile.ZIP_LZMA)).code == "unsafe_archive"
    data = bytearray(zipped(("a.json", OK)))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    assert refused(bytes(data)).code == "unsafe_archive"


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    error = refused(zipped(("a.json", b"[" + b" " * 60_000_000 + b"]")))
    assert isinstance(error, TooLargeError)
    assert error.code == "compression_bomb"
    packed = gzip.compress(b"[" + b" " * 60_000_000 + b"]", mtime=0)
    assert refused(zipped(("a.json.gz", packed))).code == "compression_bomb"
    assert refused(tarred(("a.json", b" " * 60_000_000), mode="w:gz")).code == "compression_bomb"


def test_a_zip_that_lies_about_its_sizes_is_read_no_further_than_it_says() -> None:
    data = bytearray(zipped(("a.json", b"[" + b" " * 30_000_000 + b"]")))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1_000)
    assert refused(bytes(data)).code in ("bad_archive", "malformed_json")


def test_an_archive_of_too_many_entries_or_bytes_is_refused() -> None:
    many = zipped(*((f"{n}.json", b"[]") for n in range(30)))
    assert refused(many, Limits(max_members=20)).code == "too_many_members"
    tar = tarred(*((f"{n}.json", b"[]") for n in range(30)))
    assert refused(tar, Limits(max_members=20)).code == "too_many_members"
    assert refused(zipped(("a.json", OK)), Limits(max_bytes=10)).code == "too_large"


def test_a_directory_larger_than_any_archive_needs_is_never_read() -> None:
    end = b"PK\x05\x06" + bytes(8) + struct.pack("<II", 0xFFFFFFF0, 0) + bytes(2)
    assert refused(b"PK\x03\x04" + bytes(100) + end).code == "too_many_members"
    large = b"PK\x06\x06" + bytes(36) + struct.pack("<QQ", 1 << 40, 0)
    locator = b"PK\x06\x07" + bytes(12) + struct.pack("<I", 1)
    assert refused(b"PK\x03\x04" + large + locator + end[:12] + bytes(10)).code == (
        "too_many_members"
    )


# Named, because an archive holds the time it was made, and a test's name must not.
@pytest.mark.parametrize(
    "data",
    [BACKUP[:-30], BACKUP[:40], b"PK\x03\x04\0", tarred(("a.json", OK))[:600]],
    ids=["without its directory", "its beginning", "its signature", "half a tar"],
)
def test_an_archive_that_is_cut_off_is_refused(data: bytes) -> None:
    assert isinstance(refused(data), MalformedError)
    assert refused(data).code == "bad_archive"


def test_an_archive_without_an_export_says_what_it_holds() -> None:
    error = refused(zipped(("notes.txt", b"x"), ("pic.png", b"y")))
    assert error.code == "unknown_format"
    assert "'notes.txt', 'pic.png'" in error.detail


WHOLE = (
    BACKUP,
    zipped(("a.json", OK), compression=zipfile.ZIP_STORED),
    tarred(("a.json", OK), ("b/c.json", OK)),
    tarred(("f/" * 80 + "a.json", OK), format=tarfile.PAX_FORMAT),
    tarred(("a.json", OK), mode="w:gz"),
)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_no_damage_to_an_archive_raises_anything_but_our_own_errors(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        junk = data.draw(st.binary(max_size=4) | st.just(b"\xff\xff\xff\xff"))
        whole[at : at + data.draw(st.integers(0, 4))] = junk
    try:
        found = list(read(io.BytesIO(bytes(whole))))
    except EngramError:
        return
    assert [f.index for f in found] == list(range(len(found)))


MEASURE = """
import gzip, json, resource, sys, tarfile, tempfile, zipfile
from engram.importers.reading import read
kind, count = sys.argv[1], int(sys.argv[2])
row = {"content": "Likes tea", "state": "active", "app": "a", "categories": [], "isLatest": True}
with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as lines:
    with gzip.GzipFile(fileobj=lines, mode="wb") as packed:
        for n in range(count):
            packed.write(json.dumps({"id": n, **row}).encode() + b"\\n")
    size, _ = lines.tell(), lines.seek(0)
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive, archive.open("a.jsonl.gz", "w") as member:
            member.write(lines.read())
    elif kind == "tar.gz":
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            info = tarfile.TarInfo("a.jsonl.gz")
            info.size = size
            archive.addfile(info, lines)
    else:
        file.write(b'{"version":"0.9.0","sessions":[],"summaries":[],"memories":[{}')
        for n in range(count):
            file.write(b"," + json.dumps({"id": n, **row}).encode())
        file.write(b"]}")
    file.seek(0)
    assert sum(found.item is not None for found in read(file)) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "agentmemory"])
def test_memory_stays_flat_as_a_backup_grows(kind: str) -> None:
    def peak_kb(count: int) -> int:
        command = [sys.executable, "-c", MEASURE, kind, str(count)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_kb(40_000) - peak_kb(2_000) < 2_500
