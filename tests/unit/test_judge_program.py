"""``engram dedup proposals list --rank-by``: a program orders what is shown, and nothing else."""

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from engram.domain.dedup_decision import Judge
from engram.errors import EngramError
from engram_cli import main
from engram_cli.judge_program import ProgramJudge
from tests.unit.http_stub import serving

# Alike by their lengths; answers in the order of its own scores.
BY_LENGTH = """
import json, sys
pairs = [json.loads(line) for line in sys.stdin]
said = [{"id": p["id"], "score": 1 / (1 + abs(len(p["a"]) - len(p["b"])))} for p in pairs]
for one in sorted(said, key=lambda one: -one["score"]):
    print(json.dumps(one))
"""


def program(tmp_path, source):
    file = tmp_path / "a judge.py"
    file.write_text(source, encoding="utf-8")
    return shlex.join([sys.executable, str(file)])


def rank(tmp_path, source, pairs, timeout_s=20.0):
    judge: Judge = ProgramJudge(program(tmp_path, source), timeout_s)
    return judge.rank(pairs)


def refused(tmp_path, source, pairs=(("a", "b"),), timeout_s=20.0):
    with pytest.raises(EngramError) as error:
        rank(tmp_path, source, list(pairs), timeout_s)
    assert error.value.cure
    return error.value


def test_scores_come_back_in_the_order_of_the_pairs(tmp_path):
    pairs = [("a", "bbbb"), ("ü\n“", "cc\u2028"), ("x", "y")]
    assert rank(tmp_path, BY_LENGTH, pairs) == [0.25, 1.0, 1.0]


def test_more_goes_through_than_a_pipe_holds(tmp_path):
    assert rank(tmp_path, BY_LENGTH, [("a" * 5_000, "b" * 5_000)] * 200) == [1.0] * 200


def test_nobody_is_asked_about_nothing(tmp_path):
    assert rank(tmp_path, "raise SystemExit(1)", []) == []


@pytest.mark.parametrize(
    ("wrote", "why"),
    [
        ("", "1 of 1 pairs have none"),
        ("no json", "line 1 is no JSON"),
        ("[]", "line 1 has no id"),
        ('{"id": 1, "score": 1}', "line 1 has no id"),
        ('{"id": "1"}', "no number"),
        ('{"id": "1", "score": true}', "no number"),
        ('{"id": "1", "score": NaN}', "not from 0 to 1"),
        ('{"id": "1", "score": 1.01}', "not from 0 to 1"),
        ('{"id": "2", "score": 1}', "line 1 is of no pair"),
        ('{"id": "1", "score": 1}\n{"id": "1", "score": 0}', "line 2 is of no pair"),
    ],
)
def test_scores_that_are_none_are_refused_by_their_line(tmp_path, wrote, why):
    error = refused(tmp_path, f"import sys; sys.stdin.read(); print({wrote!r})")
    assert error.code == "bad_score"
    assert why in error.detail


def test_a_judge_that_fails_is_no_judge_even_if_it_has_written(tmp_path):
    source = f"{BY_LENGTH}\nsys.exit(7)"
    error = refused(tmp_path, source)
    assert (error.code, "status 7" in error.detail) == ("judge_failed", True)


def test_a_judge_that_does_not_read_fails_like_any_other(tmp_path):
    source = "import os; os.close(0); os._exit(3)"
    assert refused(tmp_path, source, [("a" * 5_000, "b")] * 200).code == "judge_failed"


@pytest.mark.parametrize("command", ["", "engram-has-no-such-judge", "'unbalanced", "a\0b"])
def test_a_judge_that_cannot_be_started_is_a_fault_of_the_command(command):
    with pytest.raises(EngramError) as error:
        ProgramJudge(command, 5.0).rank([("a", "b")])
    assert (error.value.code, error.value.exit_code) == ("no_judge", 2)


def test_a_judge_that_takes_too_long_is_ended_with_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    source = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open({str(pids)!r} + "~", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(pids)!r} + "~", {str(pids)!r})
time.sleep(600)
"""
    started = time.monotonic()
    assert refused(tmp_path, source, timeout_s=3.0).code == "judge_timeout"
    assert time.monotonic() - started < 60
    for pid in map(int, pids.read_text().split()):
        wait_for_end(pid)


def wait_for_end(pid):
    """Wait until a process is gone, or is only waiting to be reaped by whom it was left to."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail("it outlived the judge")


def test_keys_and_passwords_are_not_in_its_environment(tmp_path, monkeypatch):
    for name in ("ENGRAM_API_KEY", "ENGRAM_DATABASE_URL", "VOYAGE_API_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("JUDGE_MODEL", "small")
    source = f"""
import os
assert "s3cret" not in os.environ.values() and os.environ["JUDGE_MODEL"] == "small"
{BY_LENGTH}"""
    assert rank(tmp_path, source, [("a", "b")]) == [1.0]


def proposal(number, a, b):
    memories = [{"id": f"m{number}{n}", "content": text} for n, text in enumerate((a, b))]
    return {
        "id": f"p{number}", "reason": "unexplained", "cosine": 0.9, "survivor": None,
        "memories": memories,
    }  # fmt: skip


PROPOSALS = [proposal(1, "a", "bbbb"), proposal(2, "a", "bb"), proposal(3, "a", "b")]


@pytest.fixture
def stub(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "secret")
        monkeypatch.setenv("COLUMNS", "200")
        running.script((200, {"items": PROPOSALS, "next_cursor": None}))
        yield running


def listed(capsys, *options):
    code = main.run(["dedup", "proposals", "list", *options])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_the_best_of_all_are_listed_first_and_nothing_is_changed(stub, capsys, tmp_path):
    command = program(tmp_path, BY_LENGTH)
    code, out, _ = listed(capsys, "--rank-by", command, "--limit", "2", "--json")
    found = json.loads(out)["items"]
    assert (code, [one["id"] for one in found]) == (0, ["p3", "p2"])
    assert [one["score"] for one in found] == [1.0, 0.5]
    assert {asked.method for asked in stub.asked} == {"GET"}


def test_people_see_the_score_beside_the_texts(stub, capsys, tmp_path):
    code, out, _ = listed(capsys, "--rank-by", program(tmp_path, BY_LENGTH))
    assert code == 0
    assert "score" in out
    assert out.index("p3") < out.index("p2") < out.index("p1")


def test_without_a_judge_the_order_is_that_of_the_server(stub, capsys):
    code, out, _ = listed(capsys, "--json")
    found = json.loads(out)["items"]
    assert (code, [one["id"] for one in found]) == (0, ["p1", "p2", "p3"])
    assert all("score" not in one for one in found)


def test_a_failing_judge_ends_the_command_with_its_cure(stub, capsys, tmp_path):
    command = program(tmp_path, "raise SystemExit(4)")
    code, out, err = listed(capsys, "--rank-by", command)
    assert (code, out) == (3, "")
    assert "judge_failed" in err
    assert "--rank-by" in err
