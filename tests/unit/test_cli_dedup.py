"""``engram dedup run``, ``judge``, ``score`` and ``calibrate``: what they print and exit with."""

import io
import json
import os

import pytest

from engram_cli import main
from tests.unit.http_stub import serving

RUN = {
    "id": "r1", "state": "running", "options": {}, "counts": {}, "merged": 0, "error": None,
    "begun": True,
}  # fmt: skip
DONE = {**RUN, "state": "done", "merged": 2, "counts": {"pairs": 3, "memories": 9}}


@pytest.fixture
def engram(capsys, monkeypatch):
    for name in [name for name in os.environ if name.startswith("ENGRAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGRAM_EMBEDDING", "hashing@256")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, said=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        code = main.run([str(argument) for argument in arguments])
        heard = capsys.readouterr()
        return code, heard.out, heard.err

    return run


def lines(*pairs):
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


def pair(number, a, b, **more):
    return {"id": number, "a": a, "b": b, **more}


SAME = pair("p1", "Has two cats.", "has 2 cats")
OTHER = pair("p2", "Has two cats.", "Has three cats.")


def test_judge_answers_a_line_for_each_pair_in_order(engram):
    code, out, _ = engram("dedup", "judge", said=lines(SAME, OTHER))
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert (first["id"], first["guard"], first["decision"]) == ("p1", "same", "merge")
    assert (second["id"], second["guard"], second["decision"]) == ("p2", "different", "conflict")
    assert 0 < first["cosine"] <= 1


def test_judge_reads_more_than_a_batch(engram):
    code, out, _ = engram("dedup", "judge", said=lines(*({**SAME, "id": n} for n in range(300))))
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [str(n) for n in range(300)]


@pytest.mark.parametrize("line", ["x", "[]", '{"id": "1", "a": "x"}', '{"a": "x", "b": "y"}'])
def test_a_line_that_is_no_pair_is_refused_by_its_number(engram, line):
    code, _, err = engram("dedup", "judge", said=lines(SAME) + line + "\n")
    assert code == 2
    assert "Line 2" in err
    assert "bad_pair" in err


def test_score_is_quiet_about_right_decisions_and_fails_on_a_false_merge(engram, tmp_path):
    file = tmp_path / "pairs.jsonl"
    right = {**SAME, "label": "duplicate", "category": "number"}
    file.write_text(lines(right), encoding="utf-8")
    code, out, _ = engram("dedup", "score", file, "--json")
    assert (code, json.loads(out)["recall"]) == (0, 1.0)
    file.write_text(lines({**right, "label": "distinct"}), encoding="utf-8")
    code, out, _ = engram("dedup", "score", file)
    assert code == 1
    assert "false merges (1 of 1)" in out


def test_calibrate_shows_thresholds_of_the_space_without_a_store(engram):
    code, out, _ = engram("dedup", "calibrate", "--json")
    found = json.loads(out)
    assert (code, found["stored"], found["space"]) == (0, False, "hashing:ngram-1@256")
    assert 0.3 <= found["propose"] <= found["merge"] <= 0.9


def test_calibrate_wants_twenty_pairs(engram, tmp_path):
    file = tmp_path / "few.jsonl"
    file.write_text(lines(SAME), encoding="utf-8")
    code, _, err = engram("dedup", "calibrate", file)
    assert code == 2
    assert "not_calibrated" in err


@pytest.fixture
def stub(engram, monkeypatch, tmp_path):
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "secret")
        yield running


def test_run_waits_for_the_end_and_says_how_to_take_it_back(stub, engram):
    stub.script((200, RUN), (200, DONE))
    code, out, _ = engram("dedup", "run")
    assert code == 0
    assert "2 merged" in out
    assert "engram dedup runs undo r1" in out


def test_run_without_waiting_returns_at_once(stub, engram):
    stub.script((200, RUN))
    code, out, _ = engram("dedup", "run", "--no-wait", "--json")
    assert (code, json.loads(out)["state"]) == (0, "running")


def test_a_dry_run_shows_its_preview(stub, engram):
    ended = {**DONE, "options": {"dry_run": True}, "merged": 0, "counts": {"would_merge": 1}}
    group = {
        "id": "m1", "namespace": "user:a", "survivor": {"id": "m1", "content": "stays"},
        "members": [{"id": "m2", "content": "goes"}], "member_count": 3,
    }  # fmt: skip
    stub.script((200, RUN), (200, ended), (200, {"items": [group], "next_cursor": None}))
    code, out, _ = engram("dedup", "run", "--dry-run")
    assert code == 0
    assert all(word in out for word in ("1 would merge", "stays", "goes", "and 2 more"))


def test_a_capped_run_is_no_success(stub, engram):
    error = {"code": "dedup_capped", "detail": "Too much."}
    stub.script((200, RUN), (200, {**DONE, "state": "capped", "error": error}))
    code, out, _ = engram("dedup", "run")
    assert code == 1
    assert "Too much. [dedup_capped]" in out
