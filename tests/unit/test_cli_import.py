"""``engram import``: files are sent as they stand, jobs are followed, one report comes back."""

import gzip
import io
import json

import pytest

from engram.importers.reading import read
from engram_cli import main
from tests.unit.http_stub import DROP, problem, serving

COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
JOB = "/v1/imports/0199"
ERROR = {"index": 3, "line": 4, "external_id": None, "code": "bad", "detail": "/content is bad"}
ERROR_LINE = {**ERROR, "pointer": "/content", "detail": "is bad"}


def report(imported=0, failed=0, **counts):
    return {
        "format": "native",
        "received": imported + failed + sum(counts.values()),
        **dict.fromkeys(COUNTS, 0),
        "imported": imported,
        "failed": failed,
        **counts,
        "by_namespace": {"global": imported} if imported else {},
        "warnings": [],
    }


def small(imported=0, failed=0, errors=()):
    return 200, {**report(imported, failed), "errors": list(errors)}


def job(state, imported=0, failed=0, **more):
    whole = {
        "id": "0199",
        "state": state,
        "strategy": "skip",
        **report(imported, failed),
        "archived": 0,
        "embedded": 0,
        "pending": 0,
        "body_bytes": 10,
        "read_bytes": 5,
        "eta_s": 1.0,
        "error": None,
        **more,
    }
    return (202 if state == "queued" else 200), whole


@pytest.fixture
def stub(monkeypatch, tmp_path):
    monkeypatch.setenv("ENGRAM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("engram_cli.import_run._POLL_S", 0.001)
    monkeypatch.setattr("engram_cli.embedded_wait._POLL_S", 0.001)
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "secret")
        yield running


@pytest.fixture
def run_json(capsys):
    def run(*arguments):
        code = main.run([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert said.err == ""
        return code, json.loads(said.out)

    return run


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "x.jsonl"
    made.write_text('{"content": "x"}\n')
    return made


def test_a_file_is_sent_byte_for_byte_and_its_report_comes_back(stub, run_json, path):
    data = b"".join(b'{"content": "memory %d"}\n' % n for n in range(40_000))
    path.write_bytes(data)
    stub.script(small(3, 1, [ERROR]))
    code, said = run_json("import", path)
    assert (code, said["imported"], said["errors"]) == (1, 3, [ERROR])
    [asked] = stub.asked
    assert asked.path == "/v1/memories/import?strategy=skip&dry_run=false"
    assert asked.headers["content-type"] == "application/x-ndjson"
    assert (asked.headers["content-length"], asked.body == data) == (str(len(data)), True)


def test_options_reach_the_server(stub, run_json, path):
    stub.script(small(1))
    options = ("--strategy", "merge", "--dry-run", "--namespace", "user:b", "--format", "native")
    assert run_json("import", path, *options, "--revive")[0] == 0
    assert stub.asked[0].path == (
        "/v1/memories/import?strategy=merge&dry_run=true&namespace=user%3Ab&format=native"
        "&revive=true"
    )


def test_a_job_is_followed_to_its_end_and_its_errors_are_fetched(stub, run_json, path):
    lines = json.dumps(ERROR_LINE).encode() + b"\n"
    stub.script(job("queued"), job("running", 5), job("done", 7, 1, warnings=["w"]), (200, lines))
    code, said = run_json("import", path)
    assert (code, said["received"], said["imported"], said["warnings"]) == (1, 8, 7, ["w"])
    assert said["errors"] == [ERROR]
    assert list(said) == ["format", "received", *COUNTS, "by_namespace", "warnings", "errors"]
    assert [asked.path for asked in stub.asked[1:]] == [JOB, JOB, f"{JOB}/errors"]


def test_waiting_for_a_job_lasts_until_its_memories_are_embedded(stub, run_json, path):
    pending = iter([job("done", 2, pending=1), job("done", 2, embedded=2)])

    def answer(asked):
        if asked.method == "POST":
            return job("queued")
        if asked.path == "/v1/workspace":
            return 200, {"vectors": {"s": {"current": 2, "pending": 0, "dead": 0}}}
        return (200, b"") if asked.path.endswith("/errors") else next(pending)

    stub.answer = answer
    assert run_json("import", path, "--wait")[0] == 0
    assert list(pending) == []


def test_wait_returns_once_nothing_is_pending(stub, run_json, path):
    pending = iter([2, 1, 0])

    def answer(asked):
        if asked.path == "/v1/workspace":
            return 200, {"vectors": {"s": {"current": 1, "pending": next(pending), "dead": 9}}}
        return small(1)

    stub.answer = answer
    assert run_json("import", path, "--wait")[0] == 0
    assert list(pending) == []


def test_a_job_that_fails_ends_the_command_with_its_reason(stub, capsys, path):
    error = {"code": "malformed_json", "detail": "Not valid JSON.", "cure": "Export again."}
    stub.script(job("queued"), job("failed", 40, error=error))
    assert main.run(["import", str(path)]) == 2
    said = capsys.readouterr().err
    assert "40 items were read before" in said
    assert "[malformed_json]" in said
    stub.script(job("queued"), job("cancelled", 40))
    assert main.run(["import", str(path)]) == 1
    assert "[import_cancelled]" in capsys.readouterr().err


def test_a_try_that_broke_off_is_begun_anew_from_the_first_byte(stub, run_json, path):
    stub.script(DROP, small(1))
    assert run_json("import", path)[0] == 0
    assert [asked.headers["idempotency-key"] for asked in stub.asked] == [
        stub.asked[0].headers["idempotency-key"]
    ] * 2
    assert stub.asked[1].body == path.read_bytes()


def test_several_files_make_one_report_whose_errors_name_their_file(stub, run_json, path):
    two = path.with_name("two.json")
    two.write_text("[]")
    stub.script(small(1), small(0, 1, [ERROR]))
    code, said = run_json("import", path, two)
    assert (code, said["received"], said["failed"]) == (1, 2, 1)
    assert [(e["file"], e["line"]) for e in said["errors"]] == [(str(two), 4)]
    assert stub.asked[1].headers["content-type"] == "application/octet-stream"


def test_one_file_at_a_time_replaces(stub, capsys, path):
    arguments = ["import", str(path), str(path), "--strategy", "replace"]
    assert main.run(arguments) == 2
    assert "would replace what the first one brought" in capsys.readouterr().err
    assert stub.asked == []


def test_standard_input_and_folders_are_sent(stub, run_json, monkeypatch, tmp_path):
    stub.script(small(1))
    data = gzip.compress(b'[{"content": "Likes tea", "user_id": "a"}]')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run_json("import", "-")[0] == 0
    assert stub.asked[0].body == data
    folder = tmp_path / "vault"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.md").write_text("a memory")
    assert run_json("import", folder)[0] == 0
    assert b"inner/a.md" in stub.asked[1].body
    assert b"a memory" in stub.asked[1].body


def test_a_folder_is_packed_here_and_its_links_are_what_they_point_to(
    stub, run_json, monkeypatch, tmp_path
):
    stub.script(small(3))
    # There is no other program: neither tar nor anything else.
    monkeypatch.setenv("PATH", "")
    line = b'{"content": "Likes tea", "user_id": "a"}\n'
    folder = tmp_path / "exports"
    (folder / "old").mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(line)
    (folder / "old" / "b.jsonl").symlink_to(folder / "a.jsonl")
    (folder / "old" / "c.jsonl").hardlink_to(folder / "a.jsonl")
    assert run_json("import", folder)[0] == 0
    found = list(read(io.BytesIO(stub.asked[0].body)))
    assert [one.item["content"] for one in found] == ["Likes tea"] * 3


@pytest.mark.parametrize("where", ["beside", "named"])
def test_errors_are_written_where_they_are_wanted(stub, run_json, path, where):
    lines = json.dumps(ERROR_LINE).encode() + b"\n"
    stub.script(job("queued"), job("done", 7, 1), (200, lines))
    chosen = "beside" if where == "beside" else path.with_name("errors.ndjson")
    assert run_json("import", path, "--errors-to", chosen)[0] == 1
    written = path.with_name("x.jsonl.errors.ndjson") if where == "beside" else chosen
    assert json.loads(written.read_text()) == {"file": str(path), **ERROR_LINE}
    stub.script(small(1))
    written.unlink()
    assert run_json("import", path, "--errors-to", chosen)[0] == 0
    assert not written.exists()


def test_people_get_a_summary_and_the_first_errors(stub, capsys, path):
    errors = [{**ERROR, "index": n, "line": n + 1, "detail": "is bad"} for n in range(12)]
    stub.script(small(0, 12, errors))
    assert main.run(["import", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "native: 12 received, 12 failed"
    assert out[1] == "line 1: is bad [bad]"
    assert out[-1] == "2 more are listed with --json or --errors-to."
    assert len(out) == 12


def test_an_item_among_others_in_one_line_is_named_by_its_index(stub, capsys, path):
    errors = [{**ERROR, "index": n, "line": 1, "detail": "is bad"} for n in range(2)]
    stub.script(small(0, 2, errors))
    assert main.run(["import", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1:] == ["line 1: is bad [bad]", "line 1, item 1: is bad [bad]"]


@pytest.mark.parametrize("as_job", [True, False])
@pytest.mark.parametrize("archived", [5, 0])
def test_people_are_told_how_a_replacement_is_undone(stub, capsys, path, as_job, archived):
    if as_job:
        ended = job("done", 7, archived=archived, strategy="replace")
        stub.script(job("queued"), ended, (200, b""))
    else:
        status, whole = small(7)
        stub.script((status, {**whole, "archived": archived, "import_id": "0199"}))
    assert main.run(["import", str(path), "--strategy", "replace"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1] == f"{archived} memories replaced; engram imports restore 0199 undoes it"


def test_a_refusal_ends_the_import_and_says_that_it_can_be_repeated(stub, capsys, path):
    stub.script(problem(401, "unknown_key"))
    assert main.run(["import", str(path)]) == 4
    assert "run the same import again" in capsys.readouterr().err


def test_imports_are_listed_shown_cancelled_and_restored(stub, run_json, capsys):
    _, one = job("done", 3, created_at="2026-01-01T00:00:00Z")
    stub.script((200, {"items": [one], "next_cursor": None}))
    assert run_json("imports", "list") == (0, {"items": [one]})
    stub.script((200, one))
    for verb, method, path in (
        ("show", "GET", JOB), ("cancel", "POST", f"{JOB}/cancel"),
        ("restore", "POST", f"{JOB}/restore"),
    ):  # fmt: skip
        assert run_json("imports", verb, "0199") == (0, one)
        assert (stub.asked[-1].method, stub.asked[-1].path) == (method, path)
    assert main.run(["imports", "show", "0199"]) == 0
    assert "by_namespace" not in capsys.readouterr().out
