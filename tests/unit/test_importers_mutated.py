"""Damaged exports of every kind: exact sums, the same ids twice, and no error but our own."""

import contextlib
import io
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.domain.memory import decode_item
from engram.errors import EngramError, Fault, InvalidError
from engram.importers.reading import read
from engram.importers.record import Found
from engram.importers.report import Report

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
FOLDERS = sorted(p.name for p in EXPORTS.iterdir() if p.is_dir())
JUNK = [
    b"",
    b'"',
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\n",
    b"\0",
    b"\xff",
    b",",
    b"null",
    b"\xef\xbb\xbf",
]
OPTIONS = [(), ("observations", "sessions")]


@cache
def export(folder: str) -> tuple[str, bytes]:
    file = next(p for p in (EXPORTS / folder).iterdir() if p.name != "expected.json")
    return file.name, file.read_bytes()


def account(data: bytes, filename: str) -> tuple[list[str | None], dict[str, int] | None]:
    """Return the ids of what was read, and the report, None when the file was refused."""
    found: list[Found] = []
    try:
        opened = read(io.BytesIO(data), filename=filename)
        found.extend(opened)
    except EngramError:
        return [f.external_id for f in found], None
    report = Report(opened.format, opened.warnings)
    for one in found:
        _count(report, one)
    return [f.external_id for f in found], report.as_json()


def _count(report: Report, found: Found) -> None:
    if found.item is None:
        report.fail(found, found.fault or Fault("", "empty", "is empty"))
        return
    try:
        memory = decode_item(found.item, imported=True)
    except InvalidError as error:
        report.fail(found, error.faults[0])
    else:
        superseded = memory.state == "superseded"
        report.add("superseded" if superseded else "imported", memory.namespace)


COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")


@pytest.mark.parametrize("folder", FOLDERS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_export_is_accounted_for_exactly_and_twice_alike(
    folder: str, data: st.DataObject
) -> None:
    name, content = export(folder)
    whole = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(whole)))
        whole[at : at + data.draw(st.integers(0, 6))] = data.draw(st.sampled_from(JUNK))
    ids, report = account(bytes(whole), name)
    assert account(bytes(whole), name) == (ids, report)
    if report is not None:
        assert report["received"] == len(ids) == sum(report[count] for count in COUNTS)


@given(st.sampled_from(FOLDERS), st.integers(1, 30), st.sampled_from(OPTIONS))
@settings(max_examples=80, deadline=None)
def test_an_export_cut_anywhere_gives_the_beginning_or_a_reason(
    folder: str, parts: int, include: tuple[str, ...]
) -> None:
    name, content = export(folder)
    wanted = include if folder.startswith("agentmemory") else ()
    with contextlib.suppress(EngramError):
        cut = io.BytesIO(content[: len(content) * parts // 30])
        opened = read(cut, filename=name, include=wanted)
        assert all((f.item is None) != (f.fault is None) for f in opened)
