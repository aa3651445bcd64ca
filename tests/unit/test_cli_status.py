"""`engram status` and `engram doctor` on pictures of the pipeline: what is drawn, what is wrong."""

import copy
import io
import json

import pytest
from rich.console import Console

from engram_cli import main
from engram_cli.pipeline_look import Course, fetch, troubles
from engram_cli.pipeline_view import draw
from tests.unit.http_stub import serving

LANE = {"pending": 3, "in_flight": 2, "redelivered": 0, "stalled_s": 0.4, "done_total": 90}
SWEEP = {
    "name": "reconcile",
    "every_s": 300.0,
    "enabled": True,
    "running": False,
    "due_in_s": 120.0,
    "late": False,
    "last_finished": None,
    "last_duration_s": 0.2,
    "last_error": None,
}
PICTURE = {
    "at": "2026-01-02T03:04:05+00:00",
    "in": {"memories": 12_345, "estimated": False, "stored_total": 100, "commands": LANE},
    "outbox": {"lines": 7, "oldest_s": 0.1, "published_total": 50},
    "spaces": [
        {
            "space": "voyage:voyage-4@1024",
            "provider": "voyage",
            "model": "voyage-4",
            "live": LANE,
            "bulk": {"waiting": 0, "oldest_s": 0.0},
            "retrying": {},
            "refused": False,
            "dead": 0,
            "vectors": 12_000,
            "written_total": 10,
        }
    ],
    "providers": [{"provider": "voyage", "model": "voyage-4", "share": 1.0}],
    "dead_letters": {},
    "sweeps": [SWEEP],
}
WORKSPACE = {
    "id": "w",
    "name": "default",
    "memory_count": 3,
    "by_state": {"active": 3},
    "vectors": {},
    "usage": {},
}


def changed(*path, to):
    """Return the picture with one value changed."""
    picture = copy.deepcopy(PICTURE)
    place = picture
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return picture


def shown(picture, rates=None):
    console = Console(file=io.StringIO(), width=100)
    console.print(draw(picture, rates or {}))
    return console.file.getvalue()


@pytest.fixture
def stub(monkeypatch, tmp_path):
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "key")
        monkeypatch.setenv("ENGRAM_OPS_PORT", running.url.rsplit(":", 1)[1])
        monkeypatch.setenv("ENGRAM_DATA_DIR", str(tmp_path))
        monkeypatch.setattr("engram_cli.commands.status._BETWEEN_S", 0.01)
        yield running


@pytest.fixture
def engram(capsys):
    def run(*arguments):
        return main.run(list(arguments)), capsys.readouterr().out

    return run


def answering(picture, ready=(200, {"findings": []})):
    """Return what a stub answers by path; each picture is a second and ten memories later."""
    looks = []

    def answer(asked):
        if asked.path == "/pipeline":
            looks.append(1)
            later = copy.deepcopy(picture)
            later["at"] = f"2026-01-02T03:04:{len(looks):02}+00:00"
            later["in"]["stored_total"] += 10 * len(looks)
            return 200, later
        return ready if asked.path == "/readyz" else (200, WORKSPACE)

    return answer


def test_the_pipeline_is_drawn_in_the_order_things_flow():
    text = shown(PICTURE, {"in": 10.0, "published": 9.5, "voyage:voyage-4@1024": 8.0})
    stages = ["in ", "outbox", "lanes", "provider", "vectors", "dead letters", "sweeps"]
    places = [text.index(f"\n{stage}") for stage in stages]
    assert places == sorted(places)
    for part in ("12,345", "10.0", "9.5", "3 + 2", "100% of quota", "12,000", "in 2 min"):
        assert part in text


def test_estimates_retries_and_what_cannot_be_told_are_marked():
    assert "~12,345" in shown(changed("in", "estimated", to=True))
    assert "refuses us" in shown(changed("spaces", 0, "refused", to=True))
    assert "tried again: timeout" in shown(changed("spaces", 0, "retrying", to={"timeout": 4}))
    assert "?" in shown(changed("spaces", 0, "live", to={"error": "NATS is away."}))
    assert "no quota" in shown(changed("providers", to=[]))


def test_rates_are_the_course_of_totals_and_never_below_nothing():
    course = Course()
    course.add(PICTURE)
    assert course.rates() == {}
    later = changed("in", "stored_total", to=140)
    later["at"] = "2026-01-02T03:04:09+00:00"
    later["outbox"]["published_total"] = 0
    course.add(later)
    assert course.rates() == {"in": 10.0, "published": 0.0, "voyage:voyage-4@1024": 0.0}


@pytest.mark.parametrize(
    ("path", "value", "stage", "grave"),
    [
        (("outbox", "oldest_s"), 31.0, "outbox", True),
        (("in", "commands"), {**LANE, "stalled_s": 61.0}, "commands", True),
        (("in", "commands"), {"error": "NATS is away."}, "commands", True),
        (("spaces", 0, "live"), {**LANE, "stalled_s": 61.0}, "lane of", True),
        (("spaces", 0, "refused"), True, "provider of", True),
        (("spaces", 0, "retrying"), {"server": 3}, "provider of", False),
        (("spaces", 0, "dead"), 2, "vectors of", False),
        (("spaces", 0, "bulk", "oldest_s"), 3_700.0, "bulk lane", False),
        (("providers", 0, "share"), 0.25, "voyage", False),
        (("dead_letters",), {"ingest": 1}, "dead letters", False),
        (("sweeps", 0, "late"), True, "sweep reconcile", True),
        (("sweeps", 0, "last_error"), "TimeoutError", "sweep reconcile", False),
    ],
)
def test_each_trouble_is_named_with_a_cure(path, value, stage, grave):
    [trouble] = troubles(changed(*path, to=value))
    assert trouble.stage.startswith(stage)
    assert trouble.grave is grave
    assert trouble.detail
    assert trouble.cure


def test_nothing_is_wrong_with_a_pipeline_that_flows():
    assert troubles(PICTURE) == []


def test_status_shows_rates_and_ends_with_0(engram, stub):
    stub.answer = answering(PICTURE)
    code, out = engram("status", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["rates_per_s"]["in"] == 10.0
    assert answer["pipeline"]["outbox"]["lines"] == 7
    assert "12,345" in engram("status")[1]


def test_status_names_what_is_not_ready(engram, stub):
    finding = {"check": "topology", "detail": "Not there: X.", "cure": "Make it."}
    stub.answer = answering(PICTURE, (503, {"findings": [finding]}))
    code, out = engram("status")
    assert code == 3
    assert "topology: Not there: X." in out


def test_watching_draws_again_until_interrupted(engram, stub, monkeypatch):
    stub.answer = answering(PICTURE)
    looks = []

    def impatient(_):
        looks.append(1)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("engram_cli.commands.status.time.sleep", impatient)
    code, out = engram("status", "--watch", "--json")
    assert code == 130
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 3
    assert lines[-1]["rates_per_s"]["in"] == 10.0
    looks.clear()
    assert engram("status", "--watch")[0] == 130


def test_doctor_tells_the_findings_of_readiness_and_of_the_pipeline(engram, stub):
    finding = {"check": "role", "detail": "Too much.", "cure": "Less.", "severity": "warning"}
    stub.answer = answering(changed("outbox", "oldest_s", to=99.0), (200, {"findings": [finding]}))
    code, out = engram("doctor", "--json")
    found = {one["check"]: one for one in json.loads(out)["findings"]}
    assert code == 1
    assert found["readiness: role"]["verdict"] == "warning"
    assert found["pipeline: outbox"]["verdict"] == "failure"
    stub.answer = answering(PICTURE)
    code, out = engram("doctor", "--json")
    assert code == 0
    assert {one["check"]: one["verdict"] for one in json.loads(out)["findings"]}["pipeline"] == "ok"


def test_another_program_on_the_port_is_no_pipeline(stub):
    for answer in ((200, b"<html>"), (200, []), (404, {}), (200, {"x": 1})):
        stub.script(answer)
        assert fetch(stub.url) is None
    assert fetch("http://127.0.0.1:1") is None
