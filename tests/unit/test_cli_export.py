"""``engram export`` and ``engram audit`` against a scripted server: whole files or none."""

import gzip
import json
import os

import pytest

from engram_cli import main
from tests.unit.http_stub import problem, serving

WORKSPACE = {"id": "w", "name": "w", "memory_count": 2, "by_state": {"active": 2}, "vectors": {}}
BODY = b'{"id":"1"}\n{"id":"2"}\n'


@pytest.fixture
def stub(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("ENGRAM_")]:
        monkeypatch.delenv(name)
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "secret")
        monkeypatch.setenv("ENGRAM_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("COLUMNS", "200")
        yield running


@pytest.fixture
def engram(capsys):
    def run(*arguments):
        code = main.run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_file_holds_what_the_server_sent_and_is_private(stub, engram, tmp_path):
    stub.script((200, WORKSPACE), (200, BODY))
    file = tmp_path / "out.ndjson"
    code, out, _ = engram("export", file, "--json")
    assert (code, file.read_bytes(), file.stat().st_mode & 0o777) == (0, BODY, 0o600)
    assert json.loads(out) == {
        "file": str(file), "format": "native", "memories": 2, "bytes": len(BODY)
    }  # fmt: skip
    assert stub.asked[-1].path == "/v1/export?format=native"


def test_without_a_file_it_is_written_to_standard_output_and_nothing_else(stub, engram):
    stub.script((200, WORKSPACE), (200, BODY))
    assert engram("export")[:2] == (0, BODY.decode())


@pytest.mark.parametrize("arguments", [("out.json.gz",), ("out", "--gzip")])
def test_a_gzipped_export_is_the_same_file_each_time(stub, engram, tmp_path, arguments):
    file = tmp_path / arguments[0]
    made = []
    for _ in range(2):
        stub.script((200, BODY))
        command = ("export", file, *arguments[1:], "--format", "mem0", "--namespace", "user:a")
        assert engram(*command)[0] == 0
        made.append(file.read_bytes())
    assert gzip.decompress(made[0]) == BODY
    assert made[0] == made[1]
    assert stub.asked[-1].path == "/v1/export?format=mem0&namespace=user%3Aa"


@pytest.mark.parametrize(
    ("answer", "exit_code", "error"),
    [
        (problem(403, "scope_missing"), 4, "scope_missing"),
        (
            (200, BODY, {"Content-Length": "1000", "Connection": "close"}),
            3,
            "export_cut_off",
        ),
    ],
)
def test_what_did_not_come_whole_leaves_the_old_file_and_nothing_else(
    stub, engram, tmp_path, answer, exit_code, error
):
    file = tmp_path / "kept"
    file.write_text("before")
    stub.script((200, WORKSPACE), answer)
    code, _, err = engram("export", file, "--json")
    assert (code, json.loads(err)["code"]) == (exit_code, error)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert file.read_text() == "before"


def test_a_place_that_cannot_be_written_is_told_before_anything_is_sent(stub, engram, tmp_path):
    stub.script((200, WORKSPACE), (200, BODY))
    code, _, err = engram("export", tmp_path / "none" / "out", "--json")
    assert (code, json.loads(err)["code"]) == (2, "unwritable_file")
    assert [asked.path for asked in stub.asked] == ["/v1/workspace"]


def test_json_needs_a_file_because_standard_output_holds_the_export(stub, engram):
    code, _, err = engram("export", "--json")
    assert (code, json.loads(err)["code"]) == (2, "usage")


ENTRY = {
    "id": "1", "at": "2026-01-01T00:00:00Z", "action": "export.finished", "subject": None,
    "actor": "key1", "counts": {"memories": 7}, "format": "native", "version": "0.1",
    "duration_s": 0.25,
}  # fmt: skip


def test_audit_shows_a_table_and_json_and_asks_for_what_is_filtered(stub, engram):
    stub.script((200, {"items": [ENTRY], "next_cursor": None}))
    code, out, _ = engram("audit", "--kind", "export", "--since", "2026-01-01T00:00:00Z")
    assert code == 0
    assert "export.finished" in out
    assert "7 memories" in out
    assert "kind=export" in stub.asked[0].path
    assert "since=2026-01-01" in stub.asked[0].path
    code, out, _ = engram("audit", "--json")
    assert json.loads(out) == {"items": [ENTRY]}


def test_audit_shows_no_more_than_asked_for_whatever_there_is(stub, engram):
    stub.script((200, {"items": [ENTRY] * 2, "next_cursor": "more"}))
    code, out, _ = engram("audit", "--limit", "3", "--json")
    assert (code, len(json.loads(out)["items"])) == (0, 3)
