"""``engram import``: files are streamed in batches and come back as one report."""

import gzip
import io
import json
import threading

import pytest

from engram_cli import main
from tests.unit.http_stub import problem, serving


class Ingest:
    """Answers like the import door: a content of ``bad`` fails, everything else is imported."""

    def __init__(self):
        self.lock, self.running, self.most_running = threading.Lock(), 0, 0
        self.items = []

    def answer(self, asked):
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        items = [json.loads(line) for line in asked.body.splitlines()]
        errors = [
            {"index": n, "line": n + 1, "external_id": None, "code": "bad", "detail": "is bad"}
            for n, item in enumerate(items)
            if item["content"] == "bad"
        ]
        with self.lock:
            self.items += items
            self.running -= 1
        counts = dict.fromkeys(("updated", "duplicates", "superseded", "skipped"), 0)
        report = {
            "format": "native",
            "received": len(items),
            "imported": len(items) - len(errors),
            "failed": len(errors),
            "by_namespace": {"global": len(items) - len(errors)},
            "warnings": [],
            "errors": errors,
            **counts,
        }
        return 200, report


@pytest.fixture
def stub(monkeypatch, tmp_path):
    monkeypatch.setenv("ENGRAM_DATA_DIR", str(tmp_path / "data"))
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "secret")
        yield running


@pytest.fixture
def ingest(stub):
    door = Ingest()
    stub.answer = door.answer
    return door


@pytest.fixture
def run_json(capsys):
    def run(*arguments):
        code = main.run([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert said.err == ""
        return code, json.loads(said.out)

    return run


def lines(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_a_large_file_goes_in_batches_and_every_item_arrives_once(ingest, stub, run_json, tmp_path):
    items = [{"content": f"memory {n}", "user_id": "alice"} for n in range(2345)]
    code, report = run_json("import", lines(tmp_path / "x.jsonl", items))
    assert code == 0
    assert (report["received"], report["imported"], report["failed"]) == (2345, 2345, 0)
    assert report["by_namespace"] == {"global": 2345}
    assert len(stub.asked) == 5
    assert sorted(item["content"] for item in ingest.items) == sorted(i["content"] for i in items)
    assert stub.asked[0].path == "/v1/memories/import?format=native&strategy=skip&dry_run=false"


def test_every_item_carries_its_source_and_an_external_id(ingest, run_json, tmp_path):
    exported = {
        "results": [
            {"id": "m1", "memory": "Likes tea", "user_id": "alice", "created_at": "2026-01-01"},
            {"id": "m2", "memory": "Likes coffee", "user_id": "alice"},
        ]
    }
    (tmp_path / "mem0.json").write_text(json.dumps(exported))
    code, report = run_json("import", tmp_path / "mem0.json")
    assert (code, report["format"]) == (0, "mem0")
    assert [(i["source"], i["external_id"], i["content"]) for i in ingest.items] == [
        ("mem0", "m1", "Likes tea"),
        ("mem0", "m2", "Likes coffee"),
    ]


def test_repeats_without_ids_stay_apart_across_batches(ingest, run_json, tmp_path):
    items = [{"content": "same", "user_id": "a"}] * 1001
    run_json("import", lines(tmp_path / "x.jsonl", items))
    assert len({item["external_id"] for item in ingest.items}) == 1001


def test_errors_of_the_server_and_of_the_file_stand_at_the_files_own_lines(
    ingest, run_json, tmp_path
):
    rows = [json.dumps({"content": f"memory {n}", "user_id": "a"}) for n in range(1200)]
    rows[3] = "{broken"
    rows[700] = json.dumps({"content": "bad", "user_id": "a"})
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(rows))
    code, report = run_json("import", path)
    assert code == 1
    assert (report["received"], report["imported"], report["failed"]) == (1200, 1198, 2)
    assert [(e["index"], e["line"]) for e in report["errors"]] == [(3, 4), (700, 701)]
    assert report["errors"][1]["code"] == "bad"


def test_several_files_make_one_report_whose_errors_name_their_file(ingest, run_json, tmp_path):
    one = lines(tmp_path / "one.jsonl", [{"content": "fine", "user_id": "a"}])
    two = lines(tmp_path / "two.jsonl", [{"content": "bad", "user_id": "a"}])
    code, report = run_json("import", one, two)
    assert (code, report["received"], report["failed"]) == (1, 2, 1)
    assert [(e["file"], e["line"]) for e in report["errors"]] == [(str(two), 1)]


def test_standard_input_and_gzip_are_read(ingest, run_json, monkeypatch):
    data = gzip.compress(b'[{"content": "Likes tea", "user_id": "a"}]')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, report = run_json("import", "-")
    assert (code, report["imported"]) == (0, 1)


def test_options_reach_the_server(ingest, stub, run_json, tmp_path):
    path = lines(tmp_path / "x.jsonl", [{"content": "x", "user_id": "a"}])
    options = ("--strategy", "skip", "--dry-run", "--namespace", "user:b", "--format", "native")
    assert run_json("import", path, *options)[0] == 0
    assert stub.asked[0].path == (
        "/v1/memories/import?format=native&strategy=skip&dry_run=true&namespace=user%3Ab"
    )


def test_wait_returns_once_nothing_is_pending(ingest, stub, run_json, tmp_path, monkeypatch):
    monkeypatch.setattr("engram_cli.embedded_wait._POLL_S", 0.001)
    pending = iter([2, 1, 0])

    def answer(asked):
        if asked.path == "/v1/workspace":
            return 200, {"vectors": {"s": {"current": 1, "pending": next(pending), "dead": 9}}}
        return ingest.answer(asked)

    stub.answer = answer
    path = lines(tmp_path / "x.jsonl", [{"content": "x", "user_id": "a"}])
    assert run_json("import", path, "--wait")[0] == 0
    assert list(pending) == []


def test_people_get_a_summary_and_the_first_errors(ingest, capsys, tmp_path):
    path = lines(tmp_path / "x.jsonl", [{"content": "bad", "user_id": "a"}] * 12)
    assert main.run(["import", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "native: 12 received, 12 failed"
    assert out[1] == "line 1: is bad [bad]"
    assert out[-1] == "2 more are listed with --json."
    assert len(out) == 12


def test_a_refusal_in_the_middle_ends_the_import_and_says_that_it_can_be_repeated(
    ingest, stub, capsys, tmp_path
):
    def answer(asked):
        return ingest.answer(asked) if not ingest.items else problem(401, "unknown_key")

    stub.answer = answer
    items = [{"content": f"memory {n}", "user_id": "a"} for n in range(3000)]
    assert main.run(["import", str(lines(tmp_path / "x.jsonl", items))]) == 4
    assert "run the same import again" in capsys.readouterr().err


def test_a_file_of_no_known_shape_is_wrong_usage(ingest, capsys, tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert main.run(["import", str(tmp_path / "x.json")]) == 2
    assert "[unknown_format]" in capsys.readouterr().err
